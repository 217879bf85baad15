module countersign.dev/load

go 1.25
