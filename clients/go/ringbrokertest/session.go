package ringbrokertest

import (
	"slices"
	"sync"

	"ringbroker"
	"ringbroker/internal/wire"
)

// What a session may have.
const (
	maxSegmentBytes = 1 << 30
	maxSlots        = 1 << 16
	maxRings        = 32
	defaultSlots    = 64
	modelsPerPage   = 16
)

// session is one connection's state: messages in, messages out, and no socket.
type session struct {
	broker *Broker
	models []Model
	over   chan struct{} // closed with the connection

	mu          sync.Mutex
	number      uint64
	token       string
	pool        string
	kind        string          // of its segments
	resumable   bool            // its connection was lost, or sent away
	lost        ringbroker.Code // and why
	welcomed    bool
	ended       bool // nothing more is read or answered
	rings       map[uint64]*ring
	count       uint64     // of rings opened
	queue       []*request // not begun
	held        bool
	encoder     wire.Encoder
	out         []byte // frames to be sent
	descriptors []int  // of segments, to be sent with them
}

// handle takes a message. Only what it appends to out happens.
func (s *session) handle(m wire.Message) {
	if _, isHello := m.(*wire.Hello); isHello == s.welcomed {
		s.end(ringbroker.CodeUnexpectedMessage, "", "a message out of order")
		return
	}
	switch m := m.(type) {
	case *wire.Hello:
		s.greet(m)
	case *wire.List:
		s.list(m)
	case *wire.Open:
		s.answerOpen(m)
	case *wire.Attached:
		s.attach(m)
	case *wire.Infer:
		s.infer(m)
	case *wire.Cancel:
		s.cancel(func(r *request) bool { return r.id == m.ID })
	case *wire.Close:
		s.close(m)
	case *wire.Ping:
		s.reply(&wire.Pong{Token: m.Token})
	}
}

func (s *session) greet(m *wire.Hello) {
	pool := m.Options.Pool
	s.kind = kindOf(m.Options.Segments)
	switch {
	case m.Major != 1:
		s.end(ringbroker.CodeVersionUnsupported, "major", "this broker speaks version 1")
	case s.kind == "":
		s.end(ringbroker.CodeNotSupported, "options.segments", "the kinds of segment are path and fd")
	case pool.Set && !s.hasPool(pool.Value):
		s.end(ringbroker.CodeUnknownPool, "options.pool", "there is no such pool")
	default:
		s.welcome(m)
	}
}

// kindOf is the first kind of segment that the broker knows, or "".
func kindOf(asked wire.Opt[[]string]) string {
	if !asked.Set {
		return "path"
	}
	for _, kind := range asked.Value {
		if kind == "path" || kind == "fd" {
			return kind
		}
	}
	return ""
}

func (s *session) welcome(m *wire.Hello) {
	if code := s.broker.helloRefusal(); code != 0 {
		s.end(code, "", "it is told to refuse")
		return
	}
	s.pool = m.Options.Pool.Value
	if !m.Options.Pool.Set {
		s.pool = s.firstPool()
	}
	rings, lost, ok := s.begin(m.Options.Resume)
	if !ok {
		s.end(ringbroker.CodeResumeRefused, "options.resume", "no session waits for this token")
		return
	}
	s.welcomed = true
	s.reply(&wire.Welcome{
		Major: 1, Minor: 0, Session: s.number, ResumeToken: wire.Some(s.token), ClockNS: s.broker.now(), Worker: 0, Workers: 1,
		Limits: wire.Limits{FrameBytes: wire.MaxPayload, SegmentBytes: maxSegmentBytes, Slots: maxSlots, Rings: maxRings},
		Options: wire.WelcomeOptions{
			Pool: wire.Some(s.pool), Rings: wire.Opt[[]wire.RingState]{Value: rings, Set: m.Options.Resume.Set},
			Lost: wire.Opt[uint16]{Value: uint16(lost), Set: lost != 0},
		},
	})
}

// firstPool is the pool of a client that asks for none.
func (s *session) firstPool() string {
	if len(s.models) == 0 {
		return "default"
	}
	return s.models[0].pool()
}

func (s *session) hasPool(name string) bool {
	return name == s.firstPool() || slices.ContainsFunc(s.models, func(m Model) bool { return m.pool() == name })
}

func (s *session) model(name string) *Model {
	for i := range s.models {
		if s.models[i].Name == name {
			return &s.models[i]
		}
	}
	return nil
}

func (s *session) list(m *wire.List) {
	all := s.models
	begin := min(m.Page, uint64(len(all)))
	end := min(begin+modelsPerPage, uint64(len(all)))
	answer := &wire.Models{ID: m.ID}
	for i := range all[begin:end] {
		answer.Models = append(answer.Models, all[begin:end][i].describe())
	}
	if end < uint64(len(all)) {
		answer.NextPage = wire.Some(end)
	}
	s.reply(answer)
}

func (s *session) answerOpen(m *wire.Open) {
	r, refused := s.open(m)
	if refused != nil {
		s.refuse(m.ID, refused)
		return
	}
	s.count++
	r.number = s.count
	s.rings[r.number] = r
	if r.path == "" {
		s.descriptors = append(s.descriptors, r.descriptor)
	}
	s.reply(r.describe(m.ID))
}

func (s *session) attach(m *wire.Attached) {
	r := s.rings[m.Ring]
	if r == nil || r.attached {
		s.end(ringbroker.CodeUnexpectedMessage, "ring", "an ATTACHED that no ring waits for")
		return
	}
	r.release()
	r.attached = true
	if m.Code != 0 {
		s.free(r)
	}
}

func (s *session) close(m *wire.Close) {
	r := s.rings[m.Ring]
	if r == nil {
		s.refuse(m.ID, newRefusal(ringbroker.CodeUnknownRing, "ring", "this session has no such ring"))
		return
	}
	s.cancel(func(q *request) bool { return q.ring == r })
	s.free(r)
	s.reply(&wire.Closed{ID: m.ID, Ring: m.Ring})
}

func (s *session) free(r *ring) {
	delete(s.rings, r.number)
	r.free()
}

// end answers what is wrong with the protocol and ends the session. What waits is dropped.
func (s *session) end(code ringbroker.Code, path, text string) {
	s.fail(wire.Opt[uint64]{}, newRefusal(code, path, text))
	s.queue = nil
	s.ended = true
}

func (s *session) refuse(id uint64, r *refusal) { s.fail(wire.Some(id), r) }

func (s *session) fail(id wire.Opt[uint64], r *refusal) {
	s.reply(&wire.Failure{
		ID: id, Code: uint16(r.code), Text: r.text, Path: wire.Opt[string]{Value: r.path, Set: r.path != ""},
		Extra: wire.ErrorExtra{NeededBytes: wire.Opt[uint64]{Value: uint64(r.needed), Set: r.needed > 0}},
	})
}

// reply appends a message to what is to be sent.
func (s *session) reply(m wire.Message) {
	before := len(s.out)
	out, err := s.encoder.Append(s.out, m)
	if err != nil {
		panic("ringbrokertest: " + err.Error()) // a model whose names do not fit the protocol
	}
	s.out = s.broker.mangled(out, before)
}
