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

	mu       sync.Mutex
	welcomed bool
	ended    bool // nothing more is read or answered
	rings    map[uint64]*ring
	count    uint64     // of rings opened
	queue    []*request // not begun
	held     bool
	encoder  wire.Encoder
	out      []byte // frames to be sent
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
	segments, pool := m.Options.Segments, m.Options.Pool
	switch {
	case m.Major != 1:
		s.end(ringbroker.CodeVersionUnsupported, "major", "this broker speaks version 1")
	case segments.Set && !slices.Contains(segments.Value, "path"):
		s.end(ringbroker.CodeNotSupported, "options.segments", "this broker has segments with a path only")
	case pool.Set && pool.Value != "default":
		s.end(ringbroker.CodeUnknownPool, "options.pool", "there is no such pool")
	case m.Options.Resume.Set:
		s.end(ringbroker.CodeNotSupported, "options.resume", "this broker gives no resume tokens")
	default:
		s.welcomed = true
		s.reply(&wire.Welcome{
			Major: 1, Minor: 0, Session: s.broker.nextSession(), ClockNS: s.broker.now(), Worker: 0, Workers: 1,
			Limits: wire.Limits{FrameBytes: wire.MaxPayload, SegmentBytes: maxSegmentBytes, Slots: maxSlots, Rings: maxRings},
		})
	}
}

func (s *session) list(m *wire.List) {
	all := s.broker.models
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
	s.reply(r.describe(m.ID))
}

func (s *session) attach(m *wire.Attached) {
	r := s.rings[m.Ring]
	if r == nil || r.attached {
		s.end(ringbroker.CodeUnexpectedMessage, "ring", "an ATTACHED that no ring waits for")
		return
	}
	r.unlink()
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

// freeAll ends the session's rings with it.
func (s *session) freeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, r := range s.rings {
		s.free(r)
	}
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
