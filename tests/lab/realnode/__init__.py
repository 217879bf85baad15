"""A real node for the lab: kubelet, containerd, runc, CNI and kube-proxy, on Linux as root.

Everything runs in namespaces of its own (process, mount, network, cgroup): when the first process of the process
namespace ends, however it ends, the kernel ends all others and takes mounts, network devices and rules with it. What
remains are files in the lab's folder, and empty cgroups, which `sandbox.sweep` removes at the next start.

    packages        runc, nft and ip from the distribution's packages, unpacked into the cache
    requirements    whether this machine can have a node, or why not
    sandbox         the namespaces, and the wire to the machine
    init            the first process in them
    cgroups         the node's own place in each hierarchy
    containerd      the runtime, its configuration, images brought in
    kubelet         kubelet and kube-proxy, their configuration
    node            all of it together: `Lab.start(node=True).real_node`
"""
