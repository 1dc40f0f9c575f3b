package abi

// Process groups and sessions of a family, as Linux has them but for job control and
// terminals: to signal several members, or wait for some, at once.
const (
	OpGroup = 94 // A=process id, 0: the guest's own; B=GroupGet …; GroupSet: C=group, 0: of its own. Reply: A=group, B=session. ESRCH, EPERM, EACCES
)

// What OpGroup does.
const (
	GroupGet     = iota
	GroupSet     // setpgid(2)
	GroupSession // setsid(2)
)

// OpKill's C, beside KillRuns: what its A is. Without either it is a process id.
const (
	KillGroup = 2 // a group, 0: the guest's own
	KillAll   = 3 // nothing: all members but the first and the guest
)

// WaitGroup is a bit of OpWait's B: A is a group, 0: the guest's own.
const WaitGroup = 4

// OpExecStart's C: the group of the child.
const (
	ExecInherit = iota
	ExecGroup   // one of its own
	ExecSession // a session of its own
	ExecJoin    // D. EPERM: there is none in this session
)
