package ringbrokertest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// player is one connection that follows a script of spec/vectors/sessions.json (the format: spec/vectors/README.md).
type player struct {
	t          *testing.T
	connection net.Conn
	names      map[string]any
	memory     []byte
}

const patience = 30 * time.Second // for anything that the broker owes

func newPlayer(t *testing.T, path string) *player {
	connection, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	connection.SetDeadline(time.Now().Add(patience))
	return &player{t: t, connection: connection, names: make(map[string]any)}
}

func (p *player) play(steps []any) {
	for i, step := range steps {
		for action, value := range step.(map[string]any) {
			if err := p.do(action, value); err != nil {
				p.t.Fatalf("step %d, %s: %v", i, action, err)
			}
		}
	}
}

func (p *player) do(action string, value any) error {
	switch action {
	case "send":
		return p.send(value.([]any))
	case "send_hex":
		return p.write(must(hex.DecodeString(value.(string))))
	case "expect":
		return p.expect(value.([]any))
	case "expect_any_order":
		return p.expectAnyOrder(value.([]any))
	case "expect_eof":
		return p.expectEnd()
	case "close":
		return p.connection.Close()
	case "map":
		return p.mapSegment(p.filled(value).(map[string]any))
	case "unlinked":
		return waitUntilGone(p.filled(value).(string))
	case "write", "read":
		return p.touch(action, value.(map[string]any))
	case "repeat":
		return p.repeat(value.(map[string]any))
	}
	return fmt.Errorf("unknown step")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func toInt(v any) int { return int(must(v.(json.Number).Int64())) }

func (p *player) send(messages []any) error {
	var all []byte
	for _, m := range messages {
		payload := pack(nil, p.filled(m))
		all = append(binary.LittleEndian.AppendUint32(all, uint32(len(payload))), payload...)
	}
	return p.write(all)
}

// write lets a broker that has said why it closes do so before all was sent.
func (p *player) write(b []byte) error {
	if _, err := p.connection.Write(b); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	return nil
}

func (p *player) receive() (any, error) {
	var head [4]byte
	if _, err := io.ReadFull(p.connection, head[:]); err != nil {
		return nil, err
	}
	payload := make([]byte, binary.LittleEndian.Uint32(head[:]))
	if _, err := io.ReadFull(p.connection, payload); err != nil {
		return nil, err
	}
	v, rest := unpack(payload)
	if len(rest) > 0 {
		return nil, fmt.Errorf("%x behind %v", rest, v)
	}
	return v, nil
}

func (p *player) expect(wanted []any) error {
	for _, want := range wanted {
		got, err := p.receive()
		if err != nil {
			return err
		}
		if !p.matches(want, got) {
			return fmt.Errorf("expected %v, received %v", p.filled(want), got)
		}
	}
	return nil
}

func (p *player) expectAnyOrder(wanted []any) error {
	missing := append([]any(nil), wanted...)
next:
	for range wanted {
		got, err := p.receive()
		if err != nil {
			return err
		}
		for i, want := range missing {
			if p.matches(want, got) {
				missing = append(missing[:i], missing[i+1:]...)
				continue next
			}
		}
		return fmt.Errorf("expected one of %v, received %v", missing, got)
	}
	return nil
}

func (p *player) expectEnd() error {
	rest, err := io.ReadAll(p.connection)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) || len(rest) > 0 {
		return fmt.Errorf("%x before the end (%v)", rest, err)
	}
	return nil
}

func (p *player) mapSegment(v map[string]any) error {
	file, err := os.OpenFile(v["path"].(string), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	p.memory, err = syscall.Mmap(int(file.Fd()), 0, toInt(v["bytes"]), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	return err
}

func waitUntilGone(path string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	return errors.New("the segment still has its name")
}

func (p *player) touch(action string, v map[string]any) error {
	var packed bytes.Buffer
	for _, value := range v["values"].([]any) {
		n := value.(json.Number)
		switch v["dtype"] {
		case "U8":
			packed.WriteByte(uint8(toInt(n)))
		case "I64":
			binary.Write(&packed, binary.LittleEndian, int64(toInt(n)))
		case "F32":
			binary.Write(&packed, binary.LittleEndian, float32(must(n.Float64())))
		default:
			return fmt.Errorf("dtype %v", v["dtype"])
		}
	}
	there := p.memory[toInt(v["offset"]):][:packed.Len()]
	if action == "write" {
		copy(there, packed.Bytes())
	} else if !bytes.Equal(there, packed.Bytes()) {
		return fmt.Errorf("%x there", there)
	}
	return nil
}

func (p *player) repeat(v map[string]any) error {
	before := maps.Clone(p.names)
	for range toInt(p.filled(v["times"])) {
		p.names = maps.Clone(before)
		p.play(v["steps"].([]any))
	}
	return nil
}

// matches compares, and binds the names that are seen for the first time: none where the whole does not match.
func (p *player) matches(want, got any) bool {
	bound := maps.Clone(p.names)
	if !match(want, got, bound) {
		return false
	}
	p.names = bound
	return true
}

func match(want, got any, names map[string]any) bool {
	switch want := want.(type) {
	case string:
		if want == "*" {
			return true
		}
		if !strings.HasPrefix(want, "$") {
			return want == got
		}
		bound, ok := names[want]
		if !ok {
			names[want] = got
		}
		return !ok || reflect.DeepEqual(bound, got)
	case []any:
		return matchList(want, got, names)
	case map[string]any:
		return matchMap(want, got, names)
	}
	return reflect.DeepEqual(want, got)
}

func matchList(want []any, got any, names map[string]any) bool {
	list, ok := got.([]any)
	if !ok || len(list) != len(want) {
		return false
	}
	for i := range want {
		if !match(want[i], list[i], names) {
			return false
		}
	}
	return true
}

func matchMap(want map[string]any, got any, names map[string]any) bool {
	if items, ok := want["$contains"]; ok {
		for _, item := range items.([]any) {
			if list, ok := got.([]any); !ok || !matchAny(item, list, names) {
				return false
			}
		}
		return true
	}
	object, ok := got.(map[string]any)
	for key, value := range want {
		there, found := object[key]
		ok = ok && found && match(value, there, names)
	}
	return ok
}

func matchAny(want any, list []any, names map[string]any) bool {
	for _, got := range list {
		if match(want, got, names) {
			return true
		}
	}
	return false
}

// filled is a value with every known name replaced by what it stands for.
func (p *player) filled(v any) any {
	switch v := v.(type) {
	case string:
		if bound, ok := p.names[v]; ok {
			return bound
		}
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = p.filled(v[i])
		}
		return all
	case map[string]any:
		all := make(map[string]any, len(v))
		for key := range v {
			all[key] = p.filled(v[key])
		}
		return all
	}
	return v
}
