package ringbroker

// Waiting is how many callers wait for rows.
func (m *Model) Waiting() int {
	r := m.ring()
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}
