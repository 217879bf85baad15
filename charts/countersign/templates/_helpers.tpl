{{- /* Labels of every object. Call with (list $ "component"). */ -}}
{{- define "countersign.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: countersign
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end -}}

{{- /* Labels that select the pods of one service. They never change, as a Deployment's selector may not. */ -}}
{{- define "countersign.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* The image: by digest if one is given. */ -}}
{{- define "countersign.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The PriorityClass of a service's pods: its own value, else the chart's, else nothing. Call with (list $ .Values.gate). */ -}}
{{- define "countersign.priorityClassName" -}}
{{- $root := index . 0 -}}
{{- (index . 1).priorityClassName | default (ternary "countersign" "" $root.Values.priorityClass.create) -}}
{{- end -}}
