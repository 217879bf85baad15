module countersign.dev/far

go 1.25
