package ringbroker

// Waiting is how many callers wait for rows.
func (m *Model) Waiting() int {
	r := m.ring.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

// Retired says whether the ring is one to take no more leases of.
func (m *Model) Retired() bool { return m.ring.Load().retired.Load() }
