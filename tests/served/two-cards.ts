// Two network cards of one guest that talk to each other through whatever they are plugged into.

/**
 * A script that gives the second card to a name space of its own (or the kernel would answer itself without sending
 * anything), pings it with short and long packets, fetches a file of `megabytes` from it, and prints ping's summary and how
 * many bytes the first card received.
 */
export function talk(megabytes: number): string {
  return `
    unshare -n sleep 1000 & other=$!
    there() { nsenter -t $other -n "$@"; }
    until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
    ip link set eth1 netns $other
    ip addr add 10.9.0.1/24 dev eth0; ip link set eth0 up
    there ip addr add 10.9.0.2/24 dev eth1; there ip link set eth1 up
    i=0; until ping -c 1 -W 1 10.9.0.2 > /dev/null; do i=$((i + 1)); [ $i -lt 20 ]; done
    ping -c 5 -i 0.2 -W 5 10.9.0.2 | tail -n 2
    ping -c 3 -i 0.2 -s 1400 -W 5 10.9.0.2 > /dev/null
    mkdir /tmp/www; dd if=/dev/urandom of=/tmp/www/file bs=1M count=${megabytes}
    there httpd -p 10.9.0.2:80 -h /tmp/www
    wget -q -O /tmp/received http://10.9.0.2/file
    cmp /tmp/www/file /tmp/received
    cat /sys/class/net/eth0/statistics/rx_bytes
    rm -r /tmp/www /tmp/received
    killall httpd; kill $other`;
}
