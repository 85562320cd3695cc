package wire

import (
	"encoding/hex"
	"testing"
)

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hotInfer() *Infer {
	return &Infer{ID: 1 << 33, Ring: 3, Slot: 5, Rows: 2, DeadlineNS: Some[uint64](1 << 50),
		Inputs: []Descriptor{{Offset: 4096, Shape: []uint64{2, 8, 8}, DType: "F32"}}}
}

func hotResult(t testing.TB) []byte {
	var encoder Encoder
	b, err := encoder.Append(nil, &Result{ID: 1 << 33, Last: true, Version: "1", BatchRows: 2, Timings: Timings{1000, 2000},
		Outputs: []Descriptor{{Offset: 8192, Shape: []uint64{2, 10}, DType: "F32"}}})
	if err != nil {
		t.Fatal(err)
	}
	return b[4:]
}

func TestRequestAndAnswerAllocateNothing(t *testing.T) {
	encoder, decoder, b, m, answer := new(Encoder), NewBrokerDecoder(), make([]byte, 0, 256), hotInfer(), hotResult(t)
	count := testing.AllocsPerRun(100, func() {
		if _, err := encoder.Append(b, m); err != nil {
			t.Fatal(err)
		}
		if _, err := decoder.Decode(answer); err != nil {
			t.Fatal(err)
		}
	})
	if count != 0 {
		t.Errorf("%v allocations", count)
	}
}

func TestWhatMayNotTravelIsNotEncoded(t *testing.T) {
	long := string(make([]byte, 129))
	var encoder Encoder
	for path, m := range map[string]Message{
		"model":       &Open{Model: long},
		"version":     &Open{Version: Some("\xff")},
		"maxima":      &Open{Maxima: map[string]uint64{"seq": 1 << 53}},
		"rows":        &Infer{},
		"client.name": &Hello{Client: Client{Name: long}},
		"inputs":      &Infer{Rows: 1, Inputs: make([]Descriptor, 33)},
	} {
		b, err := encoder.Append([]byte("before"), m)
		if err == nil || err.Code != InvalidField || err.Path != path || string(b) != "before" {
			t.Errorf("%s: %q, %#v", path, b, err)
		}
	}
	models := &Models{Models: make([]Model, 4096)}
	if _, err := encoder.Append(nil, models); err == nil || err.Code != FrameTooLarge {
		t.Errorf("a payload over 65536 bytes: %#v", err)
	}
}

func BenchmarkAppendInfer(b *testing.B) {
	encoder, room, m := new(Encoder), make([]byte, 0, 256), hotInfer()
	b.ReportAllocs()
	for range b.N {
		encoder.Append(room, m)
	}
}

func BenchmarkDecodeResult(b *testing.B) {
	decoder, answer := NewBrokerDecoder(), hotResult(b)
	b.ReportAllocs()
	for range b.N {
		decoder.Decode(answer)
	}
}
