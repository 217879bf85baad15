// The sandbox of each pod on the lab's node: the process that holds the pod's namespaces.
module lab.countersign.dev/pause

go 1.26.0
