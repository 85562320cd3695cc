package wire

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"testing"
)

// vector is one frame of spec/vectors/frames.json, and what is said of it.
type vector struct {
	Name      string
	From      string
	Message   string
	Canonical bool
	Fields    []any
	Errors    []vectorError
	Bytes
	Pieces []struct {
		Bytes
		Outcomes []outcome
	}
}

type outcome struct {
	Message string
	Fields  []any
	Error   *vectorError
}

type vectorError struct {
	Code uint16
	Name string
	Path *string
}

// Bytes are in one piece, or in parts that repeat.
type Bytes struct {
	Hex   string
	Parts []struct {
		Hex   string
		Times int
	}
}

func (v Bytes) bytes(t *testing.T) []byte {
	all, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range v.Parts {
		one, err := hex.DecodeString(part.Hex)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bytes.Repeat(one, part.Times)...)
	}
	return all
}

func (e vectorError) is(err *Error) bool {
	path := ""
	if e.Path != nil {
		path = *e.Path
	}
	return err != nil && err.Code == e.Code && err.Path == path
}

type vectors struct{ Valid, Invalid, Truncations, Streams []vector }

func readVectors(t testing.TB) (v vectors) {
	readJSON(t, &v, "vectors", "frames.json")
	if len(v.Valid) == 0 || len(v.Invalid) == 0 || len(v.Truncations) == 0 || len(v.Streams) == 0 {
		t.Fatal("a list of the vectors is empty")
	}
	return v
}

func decoders() map[string]*Decoder {
	return map[string]*Decoder{"client": NewClientDecoder(), "broker": NewBrokerDecoder()}
}

func TestValidFrames(t *testing.T) {
	tab, sides := readTable(t), decoders()
	var encoder Encoder
	for _, v := range readVectors(t).Valid {
		payload := v.bytes(t)
		m, err := sides[v.From].Decode(payload)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if reflect.TypeOf(m).Elem() != names[v.Message] || !reflect.DeepEqual(tab.fieldsOf(m), v.Fields) {
			t.Errorf("%s: decoded as %T %v", v.Name, m, tab.fieldsOf(m))
		}
		again, err := encoder.Append(nil, m)
		if err != nil {
			t.Errorf("%s: not encoded: %v", v.Name, err)
			continue
		}
		if same := bytes.Equal(again[4:], payload); v.Canonical && !same {
			t.Errorf("%s: encoded as %x", v.Name, again[4:])
		}
	}
}

func TestInvalidFrames(t *testing.T) {
	sides := decoders()
	for _, v := range readVectors(t).Invalid {
		m, err := sides[v.From].Decode(v.bytes(t))
		if !slices.ContainsFunc(v.Errors, func(e vectorError) bool { return e.is(err) }) {
			t.Errorf("%s: gave %v, %#v", v.Name, m, err)
		}
	}
}

func TestTruncatedFrames(t *testing.T) {
	sides := decoders()
	for _, v := range readVectors(t).Truncations {
		payload := v.bytes(t)
		for n := range payload {
			if _, err := sides[v.From].Decode(payload[:n]); err == nil || err.Code != BadMsgpack {
				t.Errorf("%s cut to %d bytes: %#v", v.Name, n, err)
			}
		}
	}
}

func TestStreams(t *testing.T) {
	tab := readTable(t)
	for _, v := range readVectors(t).Streams {
		stream, decoder, ended := NewStream(), decoders()[v.From], false
		for i, piece := range v.Pieces {
			var got []outcome
			if !ended { // an error ends the session: nobody reads on
				got = feed(tab, stream, decoder, piece.bytes(t))
			}
			ended = ended || len(got) > 0 && got[len(got)-1].Error != nil
			if !sameOutcomes(got, piece.Outcomes) {
				t.Errorf("%s: piece %d gave %v", v.Name, i, got)
			}
		}
	}
}

// feed feeds as much at a time as the stream has space for, and returns what happened.
func feed(tab table, s *Stream, d *Decoder, data []byte) (all []outcome) {
	for len(data) > 0 {
		n := copy(s.Space(), data)
		data = data[n:]
		s.Received(n)
		for {
			payload, ok, err := s.Next()
			if err != nil {
				return append(all, outcome{Error: &vectorError{Code: err.Code}})
			}
			if !ok {
				break
			}
			m, err := d.Decode(payload)
			if err != nil {
				return append(all, outcome{Error: &vectorError{Code: err.Code, Path: &err.Path}})
			}
			all = append(all, outcome{Fields: tab.fieldsOf(m), Message: reflect.TypeOf(m).Elem().Name()})
		}
	}
	return all
}

func sameOutcomes(got, want []outcome) bool {
	return slices.EqualFunc(got, want, func(g, w outcome) bool {
		if g.Error != nil || w.Error != nil {
			return g.Error != nil && w.Error != nil && g.Error.Code == w.Error.Code
		}
		return names[w.Message].Name() == g.Message && reflect.DeepEqual(g.Fields, w.Fields)
	})
}
