package wire

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// table is spec/messages.json.
type table struct {
	Protocol struct{ Major, Minor int }
	Frame    struct {
		MaxPayload int `json:"max_payload_bytes"`
	}
	Types    map[string]tableType
	Messages []struct {
		Number uint64
		Name   string
		From   string
		Fields [][2]string
	}
}

type tableType struct {
	Kind   string
	Of     any
	Fields [][2]string
	Keys   [][]string
}

func readJSON(t testing.TB, into any, path ...string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "..", "..", "spec"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func readTable(t testing.TB) (tab table) {
	readJSON(t, &tab, "messages.json")
	return tab
}

// names ties the table's names to ours: ERROR is Failure here, since Error is what Go calls an error.
var names = map[string]reflect.Type{
	"HELLO": reflect.TypeFor[Hello](), "LIST": reflect.TypeFor[List](), "OPEN": reflect.TypeFor[Open](),
	"ATTACHED": reflect.TypeFor[Attached](), "INFER": reflect.TypeFor[Infer](), "CANCEL": reflect.TypeFor[Cancel](),
	"CLOSE": reflect.TypeFor[Close](), "PING": reflect.TypeFor[Ping](), "ERROR": reflect.TypeFor[Failure](),
	"WELCOME": reflect.TypeFor[Welcome](), "MODELS": reflect.TypeFor[Models](), "RING": reflect.TypeFor[Ring](),
	"RESULT": reflect.TypeFor[Result](), "CLOSED": reflect.TypeFor[Closed](), "PONG": reflect.TypeFor[Pong](),
	"GOAWAY": reflect.TypeFor[GoAway](),
}

func TestMessagesAreThoseOfTheTable(t *testing.T) {
	tab := readTable(t)
	sides := map[string]*Decoder{"client": NewClientDecoder(), "broker": NewBrokerDecoder()}
	for _, m := range tab.Messages {
		ours := sides[m.From].messages[m.Number]
		if ours == nil || reflect.TypeOf(ours).Elem() != names[m.Name] {
			t.Errorf("%s, number %d from the %s, is %T", m.Name, m.Number, m.From, ours)
			continue
		}
		if ours.arity() != len(m.Fields) || reflect.TypeOf(ours).Elem().NumField() != len(m.Fields) {
			t.Errorf("%s has %d fields, not %d", m.Name, ours.arity(), len(m.Fields))
		}
		delete(sides[m.From].messages, m.Number)
	}
	for side, d := range sides {
		for number, m := range d.messages {
			t.Errorf("%T, number %d from the %s, is not in the table", m, number, side)
		}
	}
	if tab.Frame.MaxPayload != MaxPayload {
		t.Errorf("a payload has at most %d bytes, not %d", tab.Frame.MaxPayload, MaxPayload)
	}
}
