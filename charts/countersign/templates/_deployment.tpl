{{- /*
One service: ServiceAccount, Deployment and PodDisruptionBudget.
Call with (dict "root" $ "name" "gate" "values" .Values.gate "args" (list ...) "ports" (list (dict "name" "port")) "volumes" (list) "mounts" (list)).
The pods meet the restricted Pod Security Standard.
*/ -}}
{{- define "countersign.service" -}}
{{- $root := .root -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: countersign-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "countersign.labels" (list $root .name) | nindent 4 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: countersign-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "countersign.labels" (list $root .name) | nindent 4 }}
spec:
  replicas: {{ .values.replicas }}
  selector:
    matchLabels:
      {{- include "countersign.selector" (list $root .name) | nindent 6 }}
  strategy:
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        {{- include "countersign.labels" (list $root .name) | nindent 8 }}
        {{- with .values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .name }}
        {{- with .values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: countersign-{{ .name }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with include "countersign.priorityClassName" (list $root .values) }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- include "countersign.podSecurity" $root | nindent 6 }}
      terminationGracePeriodSeconds: 30
      {{- with $root.Values.topologySpread.keys }}
      topologySpreadConstraints:
        {{- range . }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: {{ $root.Values.topologySpread.whenUnsatisfiable }}
          labelSelector:
            matchLabels:
              {{- include "countersign.selector" (list $root $.name) | nindent 14 }}
        {{- end }}
      {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .name }}
          image: {{ include "countersign.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args:
            - {{ .name }}
            - --namespace={{ $root.Release.Namespace }}
            - --log-level={{ $root.Values.logLevel }}
            {{- with $root.Values.epoch }}
            - {{ printf "--epoch=%s" . | quote }}
            {{- end }}
            {{- with $root.Values.tracing.otlpEndpoint }}
            - {{ printf "--otlp-endpoint=%s" . | quote }}
            {{- end }}
            {{- if or $root.Values.tracing.otlpEndpoint $root.Values.tracing.environmentSecret }}
            - --trace-ratio={{ $root.Values.tracing.sampleRatio }}
            {{- end }}
            {{- range .args }}
            - {{ . | quote }}
            {{- end }}
          {{- with $root.Values.tracing.environmentSecret }}
          envFrom:
            - secretRef: {name: {{ . }}}
          {{- end }}
          ports:
            {{- range .ports }}
            - name: {{ .name }}
              containerPort: {{ .port }}
            {{- end }}
            - name: health
              containerPort: 8081
          {{- range $probe, $path := dict "startup" "/healthz" "liveness" "/healthz" "readiness" "/readyz" }}
          {{ $probe }}Probe:
            httpGet: {path: {{ $path }}, port: health}
            {{- toYaml (index $root.Values.probes $probe) | nindent 12 }}
          {{- end }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          {{- include "countersign.containerSecurity" $root | nindent 10 }}
          {{- with .mounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with .volumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- if $root.Values.podDisruptionBudget.enabled }}
---
# A drain takes one pod of this service at a time: also the only one, and any that is not ready.
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: countersign-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "countersign.labels" (list $root .name) | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "countersign.selector" (list $root .name) | nindent 6 }}
{{- end }}
{{- end -}}

{{- /* Binds the Role or ClusterRole countersign-NAME to its account. Call with (list $ "gate" "ClusterRole"). */ -}}
{{- define "countersign.roleBinding" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ index . 2 }}Binding
metadata:
  name: countersign-{{ $name }}
  {{- if eq (index . 2) "Role" }}
  namespace: {{ $root.Release.Namespace }}
  {{- end }}
  labels:
    {{- include "countersign.labels" (list $root $name) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ index . 2 }}
  name: countersign-{{ $name }}
subjects:
  - kind: ServiceAccount
    name: countersign-{{ $name }}
    namespace: {{ $root.Release.Namespace }}
{{- end -}}

{{- /* RBAC rules: each link of a pod's chain of built-in controllers is read live, by UID. */ -}}
{{- define "countersign.rules.owners" -}}
- apiGroups: [apps]
  resources: [deployments, replicasets, statefulsets, daemonsets]
  verbs: [get]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get]
- apiGroups: [""]
  resources: [replicationcontrollers]
  verbs: [get]
{{- end -}}

{{- /* What the restricted Pod Security Standard asks of a pod. */ -}}
{{- define "countersign.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
enableServiceLinks: false
{{- end -}}

{{- /* And of a container. */ -}}
{{- define "countersign.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}
