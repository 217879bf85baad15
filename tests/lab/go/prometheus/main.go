// Command promql says of each PromQL expression what it names: selectors with their matchers, and the labels by which
// aggregations group and vectors are matched, each with the selectors below it. One JSON string a line in, one JSON
// object a line out; by Prometheus' own parser.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

type selector struct {
	Metric string   `json:"metric"`
	Labels []string `json:"labels"`
	Values []string `json:"values"`
	Range  bool     `json:"range"`
}

type grouping struct {
	Labels  []string `json:"labels"`
	Metrics []string `json:"metrics"`
}

type said struct {
	Error     string     `json:"error,omitempty"`
	Selectors []selector `json:"selectors"`
	Groupings []grouping `json:"groupings"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	answer := json.NewEncoder(os.Stdout)
	reader := parser.NewParser(parser.Options{})
	for lines.Scan() {
		var text string
		if err := json.Unmarshal(lines.Bytes(), &text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		out := said{Selectors: []selector{}, Groupings: []grouping{}}
		if expr, err := reader.ParseExpr(text); err != nil {
			out.Error = err.Error()
		} else {
			read(expr, &out)
		}
		answer.Encode(out)
	}
}

func read(root parser.Expr, out *said) {
	parser.Inspect(root, func(node parser.Node, above []parser.Node) error {
		switch found := node.(type) {
		case *parser.VectorSelector:
			one := selector{Metric: found.Name, Labels: []string{}, Values: []string{}}
			if len(above) > 0 {
				_, one.Range = above[len(above)-1].(*parser.MatrixSelector)
			}
			for _, matcher := range found.LabelMatchers {
				if matcher.Name == "__name__" {
					continue
				}
				one.Labels = append(one.Labels, matcher.Name)
				one.Values = append(one.Values, matcher.Type.String()+matcher.Value)
			}
			out.Selectors = append(out.Selectors, one)
		case *parser.AggregateExpr:
			out.Groupings = append(out.Groupings, grouping{found.Grouping, metrics(found.Expr)})
		case *parser.BinaryExpr:
			if found.VectorMatching != nil && len(found.VectorMatching.MatchingLabels) > 0 {
				out.Groupings = append(out.Groupings, grouping{found.VectorMatching.MatchingLabels, metrics(found)})
			}
		}
		return nil
	})
}

func metrics(root parser.Expr) []string {
	names := []string{}
	parser.Inspect(root, func(node parser.Node, _ []parser.Node) error {
		if found, ok := node.(*parser.VectorSelector); ok {
			names = append(names, found.Name)
		}
		return nil
	})
	return names
}
