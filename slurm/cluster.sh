#!/usr/bin/env bash
# A SLURM cluster of four pretended nodes on this machine, to try the scripts of this folder on:
#
#   eval "$(slurm/cluster.sh up)"     starts it, and points SLURM's commands at it
#   slurm/cluster.sh down             ends its jobs and its daemons
#
# Needs root and Debian's packages slurm-wlm and munge. All that it writes is under $HPCTRAIN_CLUSTER
# (by default a folder of the temporary directory), nothing under /etc.
set -euo pipefail

HOME_OF_ALL=${HPCTRAIN_CLUSTER:-${TMPDIR:-/tmp}/hpctrain-cluster}
NODES=4
CPUS=2                     # of each node, whatever this machine has
PORT=${HPCTRAIN_CLUSTER_PORT:-17700}
PATIENCE=40                # seconds to wait for the nodes
HOST=$(uname -n | cut -d. -f1)
export SLURM_CONF=$HOME_OF_ALL/slurm.conf

configuration() {
    cat <<END
ClusterName=hpctrain
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$HOME_OF_ALL/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$HOME_OF_ALL/state
SlurmctldPidFile=$HOME_OF_ALL/controller.pid
SlurmctldLogFile=$HOME_OF_ALL/log/controller
SlurmdSpoolDir=$HOME_OF_ALL/%n/spool
SlurmdPidFile=$HOME_OF_ALL/%n/daemon.pid
SlurmdLogFile=$HOME_OF_ALL/log/%n
TmpFS=$HOME_OF_ALL/%n/tmp
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=${HPCTRAIN_CLUSTER_MPI:-pmi2}
JobRequeue=1
ReturnToService=2
KillWait=2
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=30
NodeName=DEFAULT CPUs=$CPUS RealMemory=1000 State=UNKNOWN
NodeName=n[1-$NODES] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + 1))-$((PORT + NODES))
PartitionName=all Nodes=ALL Default=YES DefaultTime=5 MaxTime=60 State=UP
END
}

# A node has a host name, /etc/hosts and /dev/shm of its own: MPI tells nodes apart by these.
start_node() {
    local node=$1
    mkdir -p "$HOME_OF_ALL/$node/tmp" "$HOME_OF_ALL/$node/spool"
    unshare --uts --mount bash -c "
        hostname $node 2>/dev/null || echo $node > /proc/sys/kernel/hostname
        mount --bind '$HOME_OF_ALL/hosts' /etc/hosts
        mount -t tmpfs tmpfs /dev/shm
        exec slurmd -N $node"
}

up() {
    local node
    mkdir -p "$HOME_OF_ALL"/{state,log}
    chmod 755 "$HOME_OF_ALL"
    configuration > "$SLURM_CONF"
    (umask 077; head -c 128 /dev/urandom > "$HOME_OF_ALL/munge.key")
    # --force: munged finds fault with the owners of temporary folders.
    munged --force --socket="$HOME_OF_ALL/munge.socket" --key-file="$HOME_OF_ALL/munge.key" \
        --pid-file="$HOME_OF_ALL/munge.pid" --seed-file="$HOME_OF_ALL/munge.seed" \
        --log-file="$HOME_OF_ALL/log/munge" 2>> "$HOME_OF_ALL/log/munge"
    slurmctld -c
    printf '127.0.0.1 %s\n' localhost "$HOST" $(seq -f 'n%g' $NODES) > "$HOME_OF_ALL/hosts"
    for node in $(seq -f 'n%g' $NODES); do start_node "$node"; done
    for _ in $(seq $((PATIENCE * 5))); do
        if [ "$(idle_nodes)" = $NODES ]; then
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.2
    done
    tail -n 20 "$HOME_OF_ALL"/log/* >&2
    echo "$0: the nodes did not come up within $PATIENCE s" >&2
    return 1
}

idle_nodes() { sinfo --noheader --Node --states=idle --format=%N 2> /dev/null | sort -u | wc -l; }

# The steps of jobs are no children of a node's daemon: jobs end first, then nodes, then the rest.
down() {
    scancel --user=root 2> /dev/null || true
    for _ in $(seq 100); do
        [ -n "$(squeue --noheader --states=running,completing 2> /dev/null)" ] || break
        sleep 0.1
    done
    for pid in "$HOME_OF_ALL"/n*/daemon.pid "$HOME_OF_ALL"/{controller,munge}.pid; do end "$pid"; done
    rm -rf "$HOME_OF_ALL"
}

end() {
    local pid
    pid=$(cat "$1" 2> /dev/null) || return 0
    kill "$pid" 2> /dev/null || return 0
    for _ in $(seq 80); do kill -0 "$pid" 2> /dev/null || return 0; sleep 0.1; done
    kill -9 "$pid" 2> /dev/null || true
}

case ${1:-} in
    up | down) "$1" ;;
    *) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
