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
      {{- with .values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        seccompProfile:
          type: RuntimeDefault
      enableServiceLinks: false
      terminationGracePeriodSeconds: 30
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "countersign.selector" (list $root $.name) | nindent 14 }}
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
            {{- range .args }}
            - {{ . | quote }}
            {{- end }}
          ports:
            {{- range .ports }}
            - name: {{ .name }}
              containerPort: {{ .port }}
            {{- end }}
            - name: health
              containerPort: 8081
          livenessProbe:
            httpGet: {path: /healthz, port: health}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: health}
            periodSeconds: 2
            timeoutSeconds: 2
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          {{- with .mounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with .volumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
---
# A drain takes one pod of this service at a time.
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: countersign-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "countersign.labels" (list $root .name) | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "countersign.selector" (list $root .name) | nindent 6 }}
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
