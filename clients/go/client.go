package ringbroker

import (
	"context"
	"sync"
	"time"

	"ringbroker/internal/wire"
)

// Client is a connection to a broker that is made anew when it is lost. It is safe for concurrent use.
type Client struct {
	path     string
	settings settings
	turn     chan struct{} // who holds its one token connects
	done     chan struct{} // closed by Close

	mu      sync.Mutex
	current *conn              // the one for new requests; may have ended
	conns   map[*conn]struct{} // all that may be alive
	closed  bool
}

// Dial connects to the broker at path; "" is [DefaultPath]. It waits for a broker that is not there yet until ctx ends,
// and then fails with BROKER_LOST, which is also ctx's error. Other errors: VERSION_UNSUPPORTED, UNKNOWN_POOL,
// TOO_MANY_CONNECTIONS; BROKER_LOST at once where waiting cannot help, as for a socket that this user may not open.
func Dial(ctx context.Context, path string, options ...Option) (*Client, error) {
	if path == "" {
		path = DefaultPath()
	}
	c := &Client{path: path, settings: defaults(), conns: make(map[*conn]struct{})}
	c.turn, c.done = make(chan struct{}, 1), make(chan struct{})
	for _, option := range options {
		option(&c.settings)
	}
	if _, _, err := c.conn(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// conn is the current connection, made anew if it has ended; fresh says whether this call made it.
func (c *Client) conn(ctx context.Context) (current *conn, fresh bool, err *Error) {
	if current, err := c.usable(); current != nil || err != nil {
		return current, false, err
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, false, lost("no connection to "+c.path, joinCause(ctx))
	case <-c.done:
		return nil, false, c.closedError()
	}
	if current, err := c.usable(); current != nil || err != nil { // made while we waited
		return current, false, err
	}
	current, err = c.connect(ctx)
	if err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = current
	return current, true, nil
}

// usable is the current connection, or nil if a new one is needed.
func (c *Client) usable() (*conn, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClientClosed()
	}
	if c.current == nil || !c.current.isUsable() {
		return nil, nil
	}
	return c.current, nil
}

// adopt makes Close end the connection.
func (c *Client) adopt(connection *conn) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClientClosed()
	}
	for old := range c.conns {
		if old.calls.ended() != nil {
			delete(c.conns, old)
		}
	}
	c.conns[connection] = struct{}{}
	return nil
}

func (c *Client) forget(connection *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, connection)
}

func (c *Client) closedError() *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClientClosed()
	}
	return nil
}

func errClientClosed() *Error { return errorf(CodeClientClosed, "", "the client was closed") }

// Close closes the connection, and with it every model that was opened through it. Calls that wait get CLIENT_CLOSED.
// Views of leases that are not released yet stay valid until they are. A second Close does nothing. The error is always
// nil.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	close(c.done)
	for connection := range c.conns {
		connection.end(errClientClosed())
	}
	c.conns = nil
	return nil
}

// retry does something on the current connection. A connection that turns out to have ended before this call made a new
// one is replaced; one that ends while a request is on it is BROKER_LOST.
func (c *Client) retry(ctx context.Context, do func(*conn) *Error) *Error {
	for {
		current, fresh, err := c.conn(ctx)
		if err != nil {
			return err
		}
		err = do(current)
		if err == nil || fresh || err.Code != CodeBrokerLost || ctx.Err() != nil {
			return err
		}
	}
}

// Ping asks the broker for a sign of life and returns how long that took. The broker answers after the batch in
// progress (spec section 9). Errors: BROKER_LOST; TIMEOUT or CANCELLED at the context's end.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	err := c.retry(ctx, func(current *conn) *Error {
		answer, err := current.call(ctx, func(id uint64) wire.Message { return &wire.Ping{Token: id} }, nil)
		if _, ok := answer.(*wire.Pong); err == nil && !ok {
			return current.confused("PING")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// confused ends a connection that answered a request with the wrong message.
func (c *conn) confused(request string) *Error {
	err := badAnswer("it is not what %s asks for", request)
	c.end(err)
	return err
}
