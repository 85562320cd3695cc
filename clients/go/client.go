package ringbroker

import (
	"context"
	"sync"
	"time"

	"ringbroker/internal/wire"
)

// Client is a broker's client: one connection, or several (see [Conns]) to each pool of models that it uses. A
// connection that is lost is made again at once; where no broker is there any more, by the next call that needs it. It
// is safe for concurrent use.
type Client struct {
	path     string
	settings settings
	life     context.Context // ends with Close
	end      context.CancelFunc

	mu     sync.Mutex
	links  []*link // the first is that of Dial
	closed bool
}

// Dial connects to the broker at path; "" is [DefaultPath]. It waits for a broker that is not there yet until ctx ends,
// and then fails with BROKER_LOST, which is also ctx's error. Other errors: VERSION_UNSUPPORTED, UNKNOWN_POOL,
// NOT_SUPPORTED, PEER_REFUSED, TOO_MANY_CONNECTIONS; BROKER_LOST at once where waiting cannot help, as for a socket that
// this user may not open.
func Dial(ctx context.Context, path string, options ...Option) (*Client, error) {
	if path == "" {
		path = DefaultPath()
	}
	c := &Client{path: path, settings: defaults()}
	c.life, c.end = context.WithCancel(context.Background())
	for _, option := range options {
		option(&c.settings)
	}
	c.links = []*link{newLink(c, c.settings.pool)}
	if _, err := c.links[0].conn(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// link is the i-th connection to a pool, from 0, made where there is none; "" is the pool of Dial's. It does not wait
// for it.
func (c *Client) link(pool string, i int) (*link, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClientClosed()
	}
	if pool == "" && i > 0 {
		pool = c.links[0].poolName()
	}
	if pool == "" && i == 0 {
		return c.links[0], nil
	}
	for _, l := range c.links {
		if l.poolName() == pool {
			if i--; i < 0 {
				return l, nil
			}
		}
	}
	for ; i >= 0; i-- {
		c.links = append(c.links, newLink(c, wire.Opt[string]{Value: pool, Set: pool != ""}))
	}
	return c.links[len(c.links)-1], nil
}

func errClientClosed() *Error { return errorf(CodeClientClosed, "", "the client was closed") }

// Close closes every connection, and with it every model that was opened through it. Calls that wait get CLIENT_CLOSED.
// The broker frees what it has of this client at once, also a session that waits to be taken up again.
// Views of leases that are not released yet stay valid until they are. A second Close does nothing. The error is always
// nil.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock() // there are no more links now
	c.end()
	for _, l := range c.links {
		l.close(errClientClosed())
	}
	return nil
}

// ask asks what concerns no ring, on the connection of Dial.
func (c *Client) ask(ctx context.Context, do func(*conn) *Error) *Error {
	l, err := c.link("", 0)
	if err != nil {
		return err
	}
	return l.ask(ctx, do)
}

// Ping asks the broker for a sign of life and returns how long that took. The broker answers after the batch in
// progress (spec section 9). Errors: BROKER_LOST; TIMEOUT or CANCELLED at the context's end.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	err := c.ask(ctx, func(current *conn) *Error {
		answer, err := current.call(ctx, &call{}, func(id uint64) wire.Message { return &wire.Ping{Token: id} })
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
