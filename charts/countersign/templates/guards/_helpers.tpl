{{- /* Metadata and the description of a guard. Call with (list $ "name" "what it does, for people"). */ -}}
{{- define "countersign.guard.metadata" -}}
{{- $root := index . 0 -}}
metadata:
  name: countersign-{{ index . 1 }}
  labels:
    {{- include "countersign.labels" (list $root "guards") | nindent 4 }}
  annotations:
    countersign.dev/description: {{ index . 2 | quote }}
{{- end -}}

{{- /* A binding that denies. Call with (list $ "name"), or (list $ "name" "params") where the policy has a paramKind. */ -}}
{{- define "countersign.guard.binding" -}}
{{- $root := index . 0 -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: countersign-{{ index . 1 }}
  labels:
    {{- include "countersign.labels" (list $root "guards") | nindent 4 }}
spec:
  policyName: countersign-{{ index . 1 }}
  validationActions: [Deny]
  {{- if gt (len .) 2 }}
  # Judged once for each object of the paramKind; where there is none, there is nothing to guard.
  paramRef:
    selector: {}
    parameterNotFoundAction: Allow
  {{- end }}
{{- end -}}

{{- /* Namespaces that admission leaves alone: those of the cluster itself, and our own. Call with $. */ -}}
{{- define "countersign.guard.notExempt" -}}
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: [kube-system, kube-public, kube-node-lease, {{ .Release.Namespace }}]
{{- end -}}

{{- /* CEL: whether the namespaceSelector of the policy at hand (params) matches a map of labels. */ -}}
{{- define "countersign.cel.selects" -}}
{{- $labels := . -}}
variables.matchLabels.all(key, key in {{ $labels }} && {{ $labels }}[key] == variables.matchLabels[key]) &&
variables.matchExpressions.all(clause,
  clause.operator == 'Exists' ? clause.key in {{ $labels }} :
  clause.operator == 'DoesNotExist' ? !(clause.key in {{ $labels }}) :
  clause.operator == 'In' ? clause.key in {{ $labels }} && {{ $labels }}[clause.key] in clause.values :
  !(clause.key in {{ $labels }}) || !({{ $labels }}[clause.key] in clause.values))
{{- end -}}

{{- /* The variables that countersign.cel.selects reads. */ -}}
{{- define "countersign.cel.selector" -}}
- name: matchLabels
  expression: params.spec.?match.?namespaceSelector.?matchLabels.orValue({})
- name: matchExpressions
  expression: params.spec.?match.?namespaceSelector.?matchExpressions.orValue([])
{{- end -}}
