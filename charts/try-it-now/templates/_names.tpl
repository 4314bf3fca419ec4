{{/* There is one try-it-now in a cluster (its CRDs and roles belong to the cluster), so names are fixed. */}}

{{- define "tryitnow.labels" -}}
app.kubernetes.io/name: try-it-now
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "tryitnow.commonLabels" -}}
app.kubernetes.io/name: try-it-now
app.kubernetes.io/part-of: try-it-now
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tryitnow.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* How long a program may take to listen: a second, and minutes on a node that is overloaded, as in
the first minutes after it booted. Only then the liveness probe begins. */}}
{{- define "tryitnow.startupProbe" -}}
httpGet:
  path: /healthz
  port: metrics
periodSeconds: 2
timeoutSeconds: 5
failureThreshold: 300
{{- end }}

{{/* A Pod that needs nothing of its node: no root, no capabilities, nothing to write to. */}}
{{- define "tryitnow.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tryitnow.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What Podman and CRIU need: everything. */}}
{{- define "tryitnow.privilegedContainer" -}}
privileged: true
runAsUser: 0
runAsGroup: 0
readOnlyRootFilesystem: true
{{- end }}

{{- define "tryitnow.uninstallHook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
