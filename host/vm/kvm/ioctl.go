package kvm

// Requests of /dev/kvm, of a VM and of a vCPU, as linux/kvm.h numbers them.
const (
	reqAPIVersion     = 0xAE00
	reqCreateVM       = 0xAE01
	reqCheckExtension = 0xAE03
	reqVCPUMapSize    = 0xAE04
	reqSupportedCPUID = 0xC008AE05

	reqCreateVCPU = 0xAE41
	reqSetMemory  = 0x4020AE46

	reqRun      = 0xAE80
	reqGetSregs = 0x8138AE83
	reqSetSregs = 0x4138AE84
	reqGetMSRs  = 0xC008AE88
	reqSetMSRs  = 0x4008AE89
	reqSetCPUID = 0x4008AE90
	reqGetXSave = 0x9000AEA4
	reqSetXSave = 0x5000AEA5
	reqSetXCRs  = 0x4188AEA7
	reqTSCKHz   = 0xAEA3
	reqSetAttr  = 0x4018AEE1
)

// RequestType is the byte that all these requests have in common (bits 8–15).
// RunRequests are those that are made while a guest runs.
const RequestType = 0xAE00

var RunRequests = []uint32{reqRun, reqGetSregs, reqGetXSave, reqSetXSave, reqSetMemory, reqGetMSRs}

// RemakeRequests are those that Remake makes besides.
var RemakeRequests = []uint32{reqCreateVM, reqCreateVCPU, reqSetCPUID, reqSetXCRs, reqSetMSRs, reqSetAttr}
