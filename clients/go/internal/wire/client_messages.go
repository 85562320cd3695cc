package wire

// The messages that a client sends, with their fields in the order of spec/messages.json.
type (
	// Hello opens the session (section 4).
	Hello struct {
		Major, Minor uint16
		Client       Client
		Options      HelloOptions
	}
	// List asks for a page of models (section 5).
	List struct{ ID, Page uint64 }
	// Open asks for a ring (section 6).
	Open struct {
		ID      uint64
		Model   string
		Version Opt[string]
		Slots   uint64
		Maxima  map[string]uint64
		Options Options
	}
	// Attached says whether the ring's segment could be mapped (section 6).
	Attached struct {
		Ring uint64
		Code uint16
	}
	// Infer hands rows to the broker (section 7).
	Infer struct {
		ID, Ring, Slot, Rows uint64
		Inputs               []Descriptor
		Outputs              Opt[[]Descriptor]
		DeadlineNS           Opt[uint64]
		Version              Opt[string]
		Extra                InferExtra
	}
	// Cancel asks that a request be dropped (section 7).
	Cancel struct{ ID uint64 }
	// Close gives a ring back (section 8).
	Close struct{ ID, Ring uint64 }
	// Ping asks for a Pong (section 9).
	Ping struct{ Token uint64 }
)

func (*Hello) number() uint64    { return 1 }
func (*List) number() uint64     { return 2 }
func (*Open) number() uint64     { return 3 }
func (*Attached) number() uint64 { return 4 }
func (*Infer) number() uint64    { return 5 }
func (*Cancel) number() uint64   { return 6 }
func (*Close) number() uint64    { return 7 }
func (*Ping) number() uint64     { return 8 }

func (*Hello) arity() int    { return 4 }
func (*List) arity() int     { return 2 }
func (*Open) arity() int     { return 6 }
func (*Attached) arity() int { return 2 }
func (*Infer) arity() int    { return 9 }
func (*Cancel) arity() int   { return 1 }
func (*Close) arity() int    { return 2 }
func (*Ping) arity() int     { return 1 }

func (m *Hello) code(c *codec) {
	codeU16(c, "major", &m.Major)
	codeU16(c, "minor", &m.Minor)
	codeMap(c, "client", &m.Client, clientKeys)
	codeMap(c, "options", &m.Options, helloKeys)
}

func (m *List) code(c *codec) {
	codeU53(c, "id", &m.ID)
	codeU53(c, "page", &m.Page)
}

func (m *Open) code(c *codec) {
	codeU53(c, "id", &m.ID)
	codeName(c, "model", &m.Model)
	codeOpt(c, "version", &m.Version, codeName)
	codeU53(c, "slots", &m.Slots)
	codeDict(c, "maxima", &m.Maxima, 64, codeU53)
	codeOptions(c, "options", &m.Options)
}

func (m *Attached) code(c *codec) {
	codeU53(c, "ring", &m.Ring)
	codeU16(c, "code", &m.Code)
}

func (m *Infer) code(c *codec) {
	codeU53(c, "id", &m.ID)
	codeU53(c, "ring", &m.Ring)
	codeU53(c, "slot", &m.Slot)
	codeCount(c, "rows", &m.Rows)
	codeDescriptors(c, "inputs", &m.Inputs)
	codeOpt(c, "outputs", &m.Outputs, codeDescriptors)
	codeOptU53(c, "deadline_ns", &m.DeadlineNS)
	codeOpt(c, "version", &m.Version, codeName)
	codeMap(c, "extra", &m.Extra, inferKeys)
}

func (m *Cancel) code(c *codec) { codeU53(c, "id", &m.ID) }

func (m *Close) code(c *codec) {
	codeU53(c, "id", &m.ID)
	codeU53(c, "ring", &m.Ring)
}

func (m *Ping) code(c *codec) { codeU53(c, "token", &m.Token) }
