#!/bin/busybox sh
# The first program of the guest: finds its ports, builds the root from the files of the host, and starts guest.sh.
# A `qemu` machine gets the files of the host by 9p and has virtio ports; `uml` has hostfs and serial lines.
b=/bin/busybox

fail() {
    echo "failed $1" >&8
    echo "adit: $1" >/dev/kmsg
    $b sleep 2
    $b poweroff -f
}

$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
exec 8>/dev/kmsg
. /adit/config

# host TAG DIR MOUNTPOINT MODE CACHE: mounts DIR of the host, which QEMU exports as TAG.
case $MACHINE in
uml)
    host() { $b mount -t hostfs -o "$4,$2" none "$3"; }
    for line in 0 1 2; do
        $b stty -F /dev/ttyS$line raw || fail "no serial line $line"
    done
    # A redirection does not expand patterns, so ports are set as parameters.
    set -- /dev/ttyS0
    ;;
qemu)
    nine=trans=virtio,version=9p2000.L,msize=131072
    host() { $b mount -t 9p -o "$4,$nine,cache=$5" "$1" "$3"; }
    for module in /preload/*.ko; do
        $b insmod "$module" || fail "cannot load $module"
    done
    waited=0
    until [ -c /dev/vport*p1 ] && [ -c /dev/vport*p3 ]; do
        [ $waited -lt 500 ] || fail "no port to the host"
        waited=$((waited + 1))
        $b sleep 0.02
    done
    set -- /dev/vport*p1
    ;;
esac
exec 8>"$1"
echo init >&8

$b mkdir -p /lower /upper /new
host root / /lower ro loose || fail "cannot mount the host's root"
$b mount -t tmpfs -o size=75%,mode=755 upper /upper

# overlay DIR NUMBER: mounts DIR of the host, with writes kept in memory.
overlay() {
    $b mkdir -p "/upper/$2/lower" "/upper/$2/upper" "/upper/$2/work" "/new$1"
    $b mount --bind "/lower$1" "/upper/$2/lower" &&
        $b mount -t overlay -o "lowerdir=/upper/$2/lower,upperdir=/upper/$2/upper,workdir=/upper/$2/work,xino=off" \
            overlay "/new$1" || fail "cannot overlay $1"
}
overlay / root
$b chmod 755 /new

for dir in proc sys dev; do
    $b mount --move /$dir /new/$dir
done
$b mount -t tmpfs -o mode=1777 tmp /new/tmp
$b mount -t tmpfs -o mode=755 run /new/run
$b mkdir -p /new/run/netns /new/run/lock /new/run/adit-vm /new/dev/pts /new/dev/shm
number=0
while IFS= read -r dir; do
    number=$((number + 1))
    overlay "$dir" $number
done </adit/binds

$b mkdir -p "/new/lib/modules/$RELEASE"
$b mount --bind "/lower$MODULES" "/new/lib/modules/$RELEASE" || fail "cannot bind the kernel's modules"
if [ -n "$ARTIFACTS" ]; then
    $b mkdir /new/run/adit-vm/artifacts
    host artifacts "$ARTIFACTS" /new/run/adit-vm/artifacts rw none || fail "cannot mount the artifacts"
fi

$b ln -s /proc/self/fd /new/dev/fd
$b ln -s fd/0 /new/dev/stdin
$b ln -s fd/1 /new/dev/stdout
$b ln -s fd/2 /new/dev/stderr
$b mount -t devpts -o ptmxmode=666,newinstance devpts /new/dev/pts
$b mount -t tmpfs -o mode=1777 shm /new/dev/shm
$b mount -t bpf bpf /new/sys/fs/bpf
$b mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
[ $MACHINE = uml ] || $b mount -t tracefs tracefs /new/sys/kernel/tracing
$b mount -t debugfs debugfs /new/sys/kernel/debug
$b ip link set lo up
echo adit-vm >/new/proc/sys/kernel/hostname

# switch_root deletes the old root, with the tools of this script.
$b cp $b /adit/* /new/run/adit-vm/
# Not chroot, because the kernel refuses user namespaces inside of a chroot.
exec $b switch_root /new /run/adit-vm/busybox sh /run/adit-vm/guest.sh
