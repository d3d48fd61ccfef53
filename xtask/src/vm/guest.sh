# Runs the command in the guest, and reports its exit code to the host through the port of descriptor 8.
# Uses the shell of the host, because the shell of busybox would use its own applets for `ip` and `sh`.
cd /run/adit-vm
b=/run/adit-vm/busybox
. ./config

read -r up rest </proc/uptime
echo "ready $up" >&8

# As parameters: the terminal, the port of standard output, that of standard error.
case $MACHINE in
uml) set -- /dev/ttyS1 /dev/ttyS1 /dev/ttyS2 ;;
qemu) set -- /dev/hvc0 /dev/vport*p2 /dev/vport*p3 ;;
esac

if [ $TERMINAL = yes ]; then
    # The terminal forgets its size when no process has it open.
    exec 7<>"$1"
    $b stty sane rows $ROWS cols $COLUMNS <&7
    $b setsid -c /bin/sh ./command <&7 >&7 2>&1 7>&- 8>&-
    code=$?
    $b sleep 0.1
else
    # A port can be opened only once, so the command gets pipes: it may open /dev/stderr.
    $b mkfifo out err
    $b cat out >"$2" 8>&- &
    out=$!
    $b cat err >"$3" 8>&- &
    err=$!
    $b setsid /bin/sh ./command </dev/null >out 2>err 8>&-
    code=$?
    # Processes that the command left running would keep the pipes open.
    for process in /proc/[0-9]*; do
        process=${process#/proc/}
        case " 1 $out $err " in
            *" $process "*) ;;
            *) kill -9 "$process" ;;
        esac
    done 2>/dev/null
    wait $out $err
    # stty returns only after the line has sent its buffer.
    [ $MACHINE = qemu ] || for line in 1 2; do $b stty -F /dev/ttyS$line raw; done
fi

[ -z "$ARTIFACTS" ] || $b sync -f /run/adit-vm/artifacts
echo "exit $code" >&8
# The host ends the machine.
while :; do
    $b sleep 60
done
