package ringbroker

import (
	"os"
	"strconv"
)

// DefaultPath is the broker's socket where no other is said: $RINGBROKER_SOCKET, else
// $XDG_RUNTIME_DIR/ringbroker/broker.sock, else /tmp/ringbroker-UID/broker.sock (spec section 2).
func DefaultPath() string {
	if path := os.Getenv("RINGBROKER_SOCKET"); path != "" {
		return path
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return dir + "/ringbroker/broker.sock"
	}
	return "/tmp/ringbroker-" + strconv.Itoa(os.Geteuid()) + "/broker.sock"
}
