#!/bin/sh
# Runs static test binaries in an emulated machine that has virtualization in
# hardware: QEMU's TCG with SVM, Debian's cloud kernel, an initramfs of busybox
# and the binaries. Needs no KVM, no root and nothing installed but apt, dpkg and
# Go's output; packages are downloaded and unpacked into a cache.
#
#	test/hw/run.sh [-t seconds] [-f FILE]… BINARY [ARG…]
#
# BINARY is a static executable, run as /test with the arguments; each FILE is
# there as /files/<its name>. The script ends
# with its exit code; 1 if it does not end in time, 125 if the machine did not get that far.
set -eu

limit=600
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/fs/files"
while :; do
	case ${1-} in
	-t) limit=$2 ;;
	-f) cp "$2" "$dir/fs/files/" ;;
	*) break ;;
	esac
	shift 2
done
[ $# -ge 1 ] || { echo "usage: run.sh [-t seconds] [-f FILE]… BINARY [ARG…]" >&2; exit 125; }
bin=$1
shift

cache=${NOYAU_HW_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/noyau/hw}
mkdir -p "$cache/debs/partial"
if [ ! -e "$cache/ready" ]; then
	# The lists must be there: `apt-get update` is the caller's to run.
	apt-get -y -qq --no-install-recommends --download-only -o Dir::Cache::archives="$cache/debs" \
		-o Debug::NoLocking=1 -o Dir::State::status=/dev/null \
		install qemu-system-x86 busybox-static linux-image-cloud-amd64 >"$cache/apt.log" 2>&1 || {
		tail -5 "$cache/apt.log" >&2
		echo "run.sh: apt-get could not download QEMU, busybox and a kernel; is 'apt-get update' needed?" >&2
		exit 125
	}
	for d in "$cache"/debs/*.deb; do
		dpkg -x "$d" "$cache/root"
	done
	rm -rf "$cache/debs"
	touch "$cache/ready"
fi
root=$cache/root
bb=$(ls "$root"/bin/busybox "$root"/usr/bin/busybox 2>/dev/null | head -1)
kernel=$(ls "$root"/boot/vmlinuz-* | head -1)
modules=$(ls -d "$root"/lib/modules/* "$root"/usr/lib/modules/* 2>/dev/null | head -1)

mkdir -p "$dir/fs/bin" "$dir/fs/mod" "$dir/fs/proc" "$dir/fs/sys" "$dir/fs/dev" "$dir/fs/tmp"
cp "$bb" "$dir/fs/bin/busybox"
cp "$bin" "$dir/fs/test"
for m in irqbypass ccp kvm kvm-amd; do
	f=$(find "$modules" -name "$m.ko*" | head -1)
	[ -z "$f" ] || cp "$f" "$dir/fs/mod/"
done
args=
for a in "$@"; do
	args="$args '$a'"
done
cat >"$dir/fs/init" <<EOF
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm
for m in irqbypass ccp kvm kvm-amd; do insmod /mod/\$m.ko 2>/dev/null; done
ip link set lo up
ls -l /dev/kvm
grep -o -w svm /proc/cpuinfo | head -1
echo hw-begin
/test $args
echo "hw-exit-code \$?"
poweroff -f
EOF
sed -i 's|/bin/busybox --install|/bin/busybox mkdir -p /bin; /bin/busybox --install|; 1s|.*|#!/bin/busybox sh|' "$dir/fs/init"
chmod +x "$dir/fs/init"
(cd "$dir/fs" && find . | "$bb" cpio -o -H newc 2>/dev/null | gzip -1 >"$dir/initrd")

# One processor. With two, the kernel in QEMU hangs in about every second run, before any
# guest of ours runs: making a vCPU without a LAPIC flips a static key, one processor
# waits in text_poke for the other to answer, and that one takes the INT3 which is being
# patched away in __schedule again and again (ignore_loglevel and
# softlockup_all_cpu_backtrace=1 show it). Processors that patch each other's code are TCG's affair.
lib=$root/usr/lib/x86_64-linux-gnu
LD_LIBRARY_PATH=$lib:$root/lib/x86_64-linux-gnu timeout -k 10 "$limit" "$root/usr/bin/qemu-system-x86_64" \
	-M q35 -cpu max -accel tcg -smp 1 -m 1024 -nographic -no-reboot -nodefaults -serial stdio -monitor none \
	-L "$root/usr/share/qemu" -L "$root/usr/share/seabios" \
	-kernel "$kernel" -initrd "$dir/initrd" -append "console=ttyS0 quiet panic=-1 mitigations=off" \
	</dev/null | tr -d '\r' | tee "$dir/log"
code=$(sed -n 's/^hw-exit-code //p' "$dir/log" | tail -1)
if [ -z "$code" ] && grep -q '^hw-begin' "$dir/log"; then
	echo "run.sh: $bin began and did not end within $limit seconds" >&2
	exit 1
fi
exit "${code:-125}"
