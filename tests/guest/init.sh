#!/bin/sh
# PID 1 of the guest: mounts, loads the modules, unpacks the staged tree into memory and keeps the agent running.
# Everything lives in memory, because the 9p share is dead after a suspend to RAM.
export PATH=/bin HOME=/root TERM=linux
# As on any machine: DPDK loads nothing from below a directory that everybody may write to.
chmod 755 /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
ln -sf /proc/self/fd /dev/fd
hostname ring3
ip link set lo up

# No driver takes a function by itself: the agent binds each one. A real machine's setting comes back afterwards.
echo 0 > /sys/bus/pci/drivers_autoprobe
while read -r module; do
  insmod "/modules/$module" || echo "init: insmod $module failed"
done < /modules/order

mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000 host /share || echo "init: no share"
cd /ring3 && cpio -idm < /share/stage.cpio 2> /dev/null || echo "init: no staged tree"
cd /

stty -F /dev/ttyS1 raw -echo 115200
node /ring3/tests/guest/agent.js
echo "init: the agent ended with $?"
poweroff -f
