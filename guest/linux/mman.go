package linux

// Protection and flags of mmap(2) and its family.
const (
	PROT_NONE  = 0
	PROT_READ  = 1
	PROT_WRITE = 2
	PROT_EXEC  = 4

	MAP_SHARED          = 0x1
	MAP_PRIVATE         = 0x2
	MAP_SHARED_VALIDATE = 0x3
	MAP_TYPE            = 0xf
	MAP_FIXED           = 0x10
	MAP_ANONYMOUS       = 0x20
	MAP_GROWSDOWN       = 0x100
	MAP_NORESERVE       = 0x4000
	MAP_POPULATE        = 0x8000
	MAP_HUGETLB         = 0x40000
	MAP_FIXED_NOREPLACE = 0x100000

	MADV_DONTNEED = 4
	MADV_FREE     = 8
	MADV_REMOVE   = 9

	MS_ASYNC      = 1
	MS_INVALIDATE = 2
	MS_SYNC       = 4

	MREMAP_MAYMOVE = 1
	MREMAP_FIXED   = 2
)
