# Ends every guarded server once standard input closes, however the process at its other end died, and then
# removes the directory $1, unless that is empty. Lines: "guard SIGNAL PID", "release SIGNAL PID".
trap '' HUP INT TERM
guarded=
while read -r verb signal pid; do
  case $verb in
  guard) guarded="$guarded $signal:$pid" ;;
  release)
    kept=
    for entry in $guarded; do
      [ "$entry" = "$signal:$pid" ] || kept="$kept $entry"
    done
    guarded=$kept
    ;;
  esac
done

# PostgreSQL's backends leave the process group of their parent: find them by parent.
children=
for stat in /proc/[0-9]*/stat; do
  read -r pid name state parent rest <"$stat" || continue
  for entry in $guarded; do
    [ "$parent" = "${entry#*:}" ] && children="$children $pid"
  done
done

groups=
for entry in $guarded; do
  groups="$groups -${entry#*:}"
  kill -s "${entry%%:*}" -- "-${entry#*:}"
done
if [ -n "$groups" ]; then
  kill -s CONT -- $groups $children
  tries=0
  while kill -s 0 -- $groups && [ $tries -lt 40 ]; do
    tries=$((tries + 1))
    sleep 0.05
  done
  kill -s KILL -- $groups $children
fi

# What libfaketime leaves of a killed process.
for entry in $guarded; do
  rm -f "/dev/shm/faketime_shm_${entry#*:}" "/dev/shm/sem.faketime_sem_${entry#*:}"
done

if [ -n "$1" ]; then
  rm -rf -- "$1" || { sleep 0.5 && rm -rf -- "$1"; }
fi
