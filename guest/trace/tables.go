package trace

// calls has, for each number, the name of the call and behind a colon the kinds of
// its arguments (see args). A call without a colon is printed as six words.
const calls = "" +
	"read:fBu write:fbu open:som close:f stat:sS fstat:fS lstat:sS poll:pud lseek:fdw mmap:puPMfx mprotect:puP " +
	"munmap:pu brk rt_sigaction:ippu rt_sigprocmask:dppu rt_sigreturn ioctl:fxp pread64:fBud pwrite64:fbud " +
	"readv:fpu writev:fpu access:sm pipe:2 select:dpppp sched_yield: mremap:puuxp msync:pux mincore:pup madvise:pud " +
	"shmget shmat shmctl dup:f dup2:ff pause: nanosleep:tp getitimer:dp alarm setitimer:dpp getpid: sendfile:ffpu " +
	"socket:Fkd connect:fnu accept:fNp sendto:fbuxnu recvfrom:fBuxNp sendmsg:fpx recvmsg:fpx shutdown:fd bind:fnu " +
	"listen:fd getsockname:fNp getpeername:fNp socketpair:Fkd2 setsockopt:fddpu getsockopt:fddpp clone:xpppp " +
	"fork: vfork: execve:spp exit:d wait4:dpdp kill:di uname:p semget semop semctl shmdt msgget msgsnd msgrcv " +
	"msgctl fcntl:fcx flock:fd fsync:f fdatasync:f truncate:su ftruncate:fu getdents getcwd:Gu chdir:s fchdir:f " +
	"rename:ss mkdir:sm rmdir:s creat:sm link:ss unlink:s symlink:ss readlink:sBu chmod:sm fchmod:fm chown:sdd " +
	"fchown:fdd lchown:sdd umask:m gettimeofday:pp getrlimit:dp getrusage:dp sysinfo:p times:p ptrace getuid: " +
	"syslog getgid: setuid:d setgid:d geteuid: getegid: setpgid:dd getppid: getpgrp: setsid: setreuid setregid " +
	"getgroups:dp setgroups setresuid getresuid setresgid getresgid getpgid:d setfsuid setfsgid getsid:d capget:pp " +
	"capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack:pp utime:sp mknod:smx " +
	"uselib personality ustat statfs:sp fstatfs:fp sysfs getpriority setpriority sched_setparam sched_getparam " +
	"sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval " +
	"mlock munlock mlockall munlockall vhangup modify_ldt pivot_root _sysctl prctl:dxxxx arch_prctl adjtimex " +
	"setrlimit:dp chroot:s sync: acct settimeofday mount:ssspp umount2 swapon swapoff reboot sethostname setdomainname " +
	"iopl ioperm create_module init_module delete_module get_kernel_syms query_module quotactl nfsservctl " +
	"getpmsg putpmsg afs_syscall tuxcall security gettid: readahead setxattr:sspux lsetxattr fsetxattr getxattr:sspu " +
	"lgetxattr:sspu fgetxattr listxattr:spu llistxattr flistxattr removexattr lremovexattr fremovexattr tkill:di " +
	"time:p futex:pduppu sched_setaffinity:dup sched_getaffinity:dup set_thread_area io_setup io_destroy io_getevents " +
	"io_submit io_cancel get_thread_area lookup_dcookie epoll_create:d epoll_ctl_old epoll_wait_old remap_file_pages " +
	"getdents64:fpu set_tid_address restart_syscall semtimedop fadvise64:fddd timer_create timer_settime timer_gettime " +
	"timer_getoverrun timer_delete clock_settime clock_gettime:dT clock_getres:dp clock_nanosleep:ddtp exit_group:d " +
	"epoll_wait:fpdd epoll_ctl:fefp tgkill:ddi utimes:sp vserver mbind set_mempolicy get_mempolicy mq_open " +
	"mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr kexec_load waitid add_key request_key " +
	"keyctl ioprio_set ioprio_get inotify_init: inotify_add_watch:fsx inotify_rm_watch:fd migrate_pages openat:asom " +
	"mkdirat:asm mknodat:asmx fchownat:asddx futimesat:asp newfstatat:asSx unlinkat:asx renameat:asas linkat:asasx " +
	"symlinkat:sas readlinkat:asBu fchmodat:asm faccessat:asm pselect6:dppptp ppoll:putp unshare set_robust_list:pu " +
	"get_robust_list splice:fpfpux tee:ffux sync_file_range:fddx vmsplice move_pages utimensat:aspx epoll_pwait:fpddpu " +
	"signalfd:fpu timerfd_create:dx eventfd:u fallocate:fxdd timerfd_settime:fxpp timerfd_gettime:fp accept4:fNpK " +
	"signalfd4:fpux eventfd2:ux epoll_create1:x dup3:ffO pipe2:2O inotify_init1:x preadv:fpud pwritev:fpud " +
	"rt_tgsigqueueinfo perf_event_open recvmmsg:fpuxt fanotify_init fanotify_mark prlimit64:ddpp name_to_handle_at " +
	"open_by_handle_at clock_adjtime syncfs:f sendmmsg:fpux setns getcpu:pp process_vm_readv process_vm_writev " +
	"kcmp finit_module sched_setattr sched_getattr renameat2:asasx seccomp getrandom:pux memfd_create:sx kexec_file_load " +
	"bpf execveat userfaultfd membarrier:dxd mlock2 copy_file_range:fpfpux preadv2:fpuddx pwritev2:fpuddx " +
	"pkey_mprotect pkey_alloc pkey_free statx:asxxp io_pgetevents rseq:puxx                               " +
	"                                                           pidfd_send_signal io_uring_setup io_uring_enter " +
	"io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick pidfd_open clone3 close_range:uux " +
	"openat2:aspu pidfd_getfd faccessat2:asmx process_madvise epoll_pwait2:fpdtp mount_setattr quotactl_fd " +
	"landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease futex_waitv " +
	"set_mempolicy_home_node "

// errnos are the names of the error numbers from 1 on.
const errnos = "" +
	"EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY " +
	"EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK " +
	"EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP  ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT " +
	"EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT  EBFONT ENOSTR ENODATA " +
	"ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW " +
	"ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK " +
	"EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT " +
	"EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS " +
	"EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS " +
	"ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED " +
	"EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON "

// signals are the names of the signals from 1 on, without SIG.
const signals = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS "
