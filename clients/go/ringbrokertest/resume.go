package ringbrokertest

import (
	"crypto/rand"
	"encoding/hex"
	"reflect"

	"ringbroker"
	"ringbroker/internal/wire"
)

// Sessions are kept by their tokens where they were lost, or sent away (spec section 9).

// begin gives a session its number, or takes up the one that the token stands for, under a new token.
func (s *session) begin(token wire.Opt[string]) (rings []wire.RingState, lost ringbroker.Code, resumed bool) {
	if !token.Set {
		s.number = s.broker.nextSession()
		s.broker.keep(s)
		return nil, 0, true
	}
	old := s.broker.redeem(token.Value)
	if old == nil {
		return nil, 0, false
	}
	s.mu.Unlock()
	<-old.over
	s.mu.Lock()
	if !old.resumable || !s.hasPool(old.pool) {
		for _, r := range old.rings {
			old.free(r)
		}
		return nil, 0, false
	}
	s.number, s.count, s.pool = old.number, old.count, old.pool
	for number, r := range old.rings {
		state := wire.RingState{Ring: number}
		if s.changed(r) {
			state.Code = uint16(ringbroker.CodeSignatureChanged)
			r.free()
		} else {
			clear(r.busy)
			s.rings[number] = r
		}
		rings = append(rings, state)
	}
	s.broker.keep(s)
	s.broker.mu.Lock()
	s.broker.faults.resumes++
	s.broker.mu.Unlock()
	return rings, old.lost, true
}

// changed says whether a ring's model has another signature now, or is gone.
func (s *session) changed(r *ring) bool {
	now := s.model(r.model.Name)
	return now == nil || now.pool() != s.pool || !reflect.DeepEqual(now.describe().Signature, r.model.describe().Signature)
}

// keep notes a session under a new token.
func (b *Broker) keep(s *session) {
	var random [16]byte
	rand.Read(random[:])
	s.token = hex.EncodeToString(random[:])
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions[s.token] = s
}

// redeem is the session of a token, which is good for one resume; nil where there is none.
func (b *Broker) redeem(token string) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[token]
	delete(b.sessions, token)
	return s
}

// leave ends a session with its connection. What may be taken up stays.
func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.queue = true, nil
	for _, r := range s.rings {
		if !s.resumable || !r.attached {
			s.free(r)
		}
	}
	if !s.resumable {
		s.broker.redeem(s.token)
	}
	close(s.over)
}

// Forget drops every session that waits to be taken up, as a broker does after a while: its client is refused.
func (b *Broker) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for token, s := range b.sessions {
		select {
		case <-s.over:
			for _, r := range s.rings {
				s.free(r)
			}
			delete(b.sessions, token)
		default:
		}
	}
}

// Replace makes the broker serve these models to connections that come from now on, as a reload does. [Broker.GoAway]
// moves those that there are.
func (b *Broker) Replace(models ...Model) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.models = models
}
