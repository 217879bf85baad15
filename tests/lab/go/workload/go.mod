// What runs in the containers of the end-to-end tests: a workload that holds a token, and the service that it calls.
module lab.countersign.dev/workload

go 1.26.0
