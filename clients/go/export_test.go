package ringbroker

import "time"

// IsIdle says whether the client has no connection, and looks for none.
func (c *Client) IsIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.links {
		l.mu.Lock()
		idle := isClosed(l.search.done) && !l.isUp()
		l.mu.Unlock()
		if !idle {
			return false
		}
	}
	return true
}

// SetUnwaitedSearch sets for how long a connection is looked for that nobody waits for.
func SetUnwaitedSearch(d time.Duration) (restore func()) {
	before := unwaitedSearch
	unwaitedSearch = d
	return func() { unwaitedSearch = before }
}

// Waiting is how many callers wait for rows.
func (m *Model) Waiting() int {
	m.queue.mu.Lock()
	defer m.queue.mu.Unlock()
	return len(m.queue.waiting)
}
