package wire

// The messages that the broker sends, with their fields in the order of spec/messages.json.
type (
	// Failure is the message ERROR (section 10).
	Failure struct {
		ID           Opt[uint64]
		Code         uint16
		Text         string
		Path         Opt[string]
		RetryAfterMS Opt[uint64]
		Extra        ErrorExtra
	}
	// Welcome answers a Hello (section 4).
	Welcome struct {
		Major, Minor    uint16
		Session         uint64
		ResumeToken     Opt[string]
		ClockNS         uint64
		Limits          Limits
		Worker, Workers uint16
		Options         WelcomeOptions
	}
	// Models answers a List (section 5).
	Models struct {
		ID       uint64
		Models   []Model
		NextPage Opt[uint64]
	}
	// Ring answers an Open (section 6).
	Ring struct {
		ID, Ring       uint64
		Segment        Segment
		Slots, MaxRows uint64
		Version        string
		Planes         []Plane
		Options        RingOptions
	}
	// Result answers an Infer (section 7).
	Result struct {
		ID        uint64
		Last      bool
		Outputs   []Descriptor
		Version   string
		Timings   Timings
		BatchRows uint64
		Extra     Options
	}
	// Closed answers a Close (section 8).
	Closed struct{ ID, Ring uint64 }
	// Pong answers a Ping (section 9).
	Pong struct{ Token uint64 }
	// GoAway says that the broker will close the connection (section 9).
	GoAway struct {
		Reason  string
		GraceMS uint64
	}
)

func (*Failure) number() uint64 { return 64 }
func (*Welcome) number() uint64 { return 65 }
func (*Models) number() uint64  { return 66 }
func (*Ring) number() uint64    { return 67 }
func (*Result) number() uint64  { return 69 }
func (*Closed) number() uint64  { return 71 }
func (*Pong) number() uint64    { return 72 }
func (*GoAway) number() uint64  { return 73 }

func (*Failure) arity() int { return 6 }
func (*Welcome) arity() int { return 9 }
func (*Models) arity() int  { return 3 }
func (*Ring) arity() int    { return 8 }
func (*Result) arity() int  { return 7 }
func (*Closed) arity() int  { return 2 }
func (*Pong) arity() int    { return 1 }
func (*GoAway) arity() int  { return 2 }

func (m *Failure) code(c *codec) {
	codeOptU53(c, "id", &m.ID)
	codeU16(c, "code", &m.Code)
	codeText(c, "text", &m.Text)
	codeOpt(c, "path", &m.Path, codeText)
	codeOptU53(c, "retry_after_ms", &m.RetryAfterMS)
	codeMap(c, "extra", &m.Extra, errorKeys)
}

func (m *Welcome) code(c *codec) {
	codeU16(c, "major", &m.Major)
	codeU16(c, "minor", &m.Minor)
	codeU53(c, "session", &m.Session)
	codeOpt(c, "resume_token", &m.ResumeToken, codeName)
	codeU53(c, "clock_ns", &m.ClockNS)
	codeMap(c, "limits", &m.Limits, limitsKeys)
	codeU16(c, "worker", &m.Worker)
	codeU16(c, "workers", &m.Workers)
	codeMap(c, "options", &m.Options, welcomeKeys)
}

func (m *Models) code(c *codec) {
	codeU53(c, "id", &m.ID)
	codeList(c, "models", &m.Models, 4096, codeModel)
	codeOptU53(c, "next_page", &m.NextPage)
}

func (m *Ring) code(c *codec) {
	codeU53(c, "id", &m.ID)
	codeU53(c, "ring", &m.Ring)
	codeMap(c, "segment", &m.Segment, segmentKeys)
	codeCount(c, "slots", &m.Slots)
	codeCount(c, "max_rows", &m.MaxRows)
	codeName(c, "version", &m.Version)
	codeList(c, "planes", &m.Planes, 64, codePlane)
	codeMap(c, "options", &m.Options, ringKeys)
}

func (m *Result) code(c *codec) {
	codeU53(c, "id", &m.ID)
	codeBool(c, "last", &m.Last)
	codeDescriptors(c, "outputs", &m.Outputs)
	codeName(c, "version", &m.Version)
	codeTimings(c, "timings", &m.Timings)
	codeCount(c, "batch_rows", &m.BatchRows)
	codeOptions(c, "extra", &m.Extra)
}

func (m *Closed) code(c *codec) {
	codeU53(c, "id", &m.ID)
	codeU53(c, "ring", &m.Ring)
}

func (m *Pong) code(c *codec) { codeU53(c, "token", &m.Token) }

func (m *GoAway) code(c *codec) {
	codeText(c, "reason", &m.Reason)
	codeU53(c, "grace_ms", &m.GraceMS)
}
