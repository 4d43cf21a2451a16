{{- define "tellmt.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tellmt.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tellmt.labels" -}}
{{ include "tellmt.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tellmt.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- /* Whether there may be two replicas at once, besides a rolling update. */ -}}
{{- define "tellmt.several" -}}
{{- if or (gt (int .Values.replicas) 1) (ne .Values.autoscaling.kind "none") }}yes{{ end }}
{{- end }}

{{- define "tellmt.keysSecret" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "tellmt.name" .)) }}
{{- end }}

{{- /* The directory of a packaged base, as tell.model.base.slug names it. */ -}}
{{- define "tellmt.model" -}}
{{ .Values.vllm.model | default (printf "/srv/tellmt/bases/%s" (regexReplaceAll "[^A-Za-z0-9._-]+" .Values.base "--" | trimAll "-.")) }}
{{- end }}

{{- /* One flag. Numbers come as floats, in which a million is 1e+06; `$(` in a text would be an environment variable to Kubernetes. */ -}}
{{- define "tellmt.flag" -}}
{{- $flag := printf "--%s" (kebabcase .name) }}
{{- if kindIs "bool" .value }}{{ if .value }}{{ printf "- %s\n" ($flag | quote) }}{{ end }}
{{- else if kindIs "slice" .value }}{{ range .value }}{{ printf "- %s\n" (printf "%s=%s" $flag . | replace "$(" "$$(" | quote) }}{{ end }}
{{- else if kindIs "float64" .value }}{{ printf "- %s\n" (printf "%s=%s" $flag (ternary (int64 .value | toString) (toString .value) (eq (floor .value) .value)) | quote) }}
{{- else }}{{ printf "- %s\n" (printf "%s=%s" $flag (toString .value) | replace "$(" "$$(" | quote) }}{{ end }}
{{- end }}

{{- /* All arguments of the service. */ -}}
{{- define "tellmt.args" -}}
- "serve"
- "--host=0.0.0.0"
- "--port=8080"
- {{ printf "--base=%s" .Values.base | quote }}
- {{ printf "--registry=%s" (.Values.registry.url | default "/srv/tellmt/registry") | quote }}
{{- if .Values.feedback }}
- "--feedback=/srv/tellmt/state/feedback.jsonl"
{{- end }}
{{- if .Values.vllm.enabled }}
- "--engine=openai"
- "--engine-url=http://127.0.0.1:8000"
- "--no-shipped"
{{- end }}
{{ range $name, $value := .Values.serve }}
{{- include "tellmt.flag" (dict "name" $name "value" $value) }}
{{- end }}
{{- end }}

{{- define "tellmt.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* What does not go together, in words. */ -}}
{{- define "tellmt.check" -}}
{{- if eq (empty .Values.registry.url) (empty .Values.registry.existingClaim) }}{{ fail "give one of registry.url (s3://bucket/registry) and registry.existingClaim" }}{{ end }}
{{- if eq (empty .Values.keys.existingSecret) (empty .Values.keys.content) }}{{ fail "give one of keys.existingSecret and keys.content (--set-file keys.content=keys.json): without keys the service listens on its own machine alone" }}{{ end }}
{{- if ne (eq .Values.bases.from "claim") (not (empty .Values.bases.existingClaim)) }}{{ fail "bases.existingClaim goes with bases.from: claim" }}{{ end }}
{{- if and (or .Values.serve.monitor .Values.feedback) (empty .Values.state.existingClaim) }}{{ fail "serve.monitor and feedback need state.existingClaim, where they keep what they write" }}{{ end }}
{{- if and .Values.serve.monitor (include "tellmt.several" .) }}{{ fail "serve.monitor goes with one replica: several would each run the canary sets and open and close each other's alarms; use `tellmt monitor run --server` from a CronJob" }}{{ end }}
{{- if and (not .Values.serve.monitor) (or .Values.serve.rollBackOnAlarm .Values.serve.alarmWebhook .Values.serveFromSecret.alarmWebhook) }}{{ fail "rollBackOnAlarm and alarmWebhook go with serve.monitor" }}{{ end }}
{{- if and (eq .Values.autoscaling.kind "keda") (empty .Values.autoscaling.prometheus) }}{{ fail "autoscaling.kind: keda needs autoscaling.prometheus, the address of Prometheus" }}{{ end }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}{{ fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" }}{{ end }}
{{- if gt (float64 .Values.serve.grace) (float64 .Values.serve.drain) }}{{ fail "serve.grace is part of serve.drain and cannot be more" }}{{ end }}
{{- range $name, $_ := .Values.serveFromSecret }}{{ if hasKey $.Values.serve $name }}{{ fail (printf "%s is in serve and in serveFromSecret" $name) }}{{ end }}{{ end }}
{{- if .Values.vllm.enabled }}
{{- range $name := list "engine" "engineUrl" "enginePathMap" "noShipped" }}{{ if hasKey $.Values.serve $name }}{{ fail (printf "serve.%s is set by vllm.enabled" $name) }}{{ end }}{{ end }}
{{- if eq .Values.bases.from "image" }}{{ fail "vllm.enabled needs bases.from: fetch or claim: vLLM cannot see into the service's image" }}{{ end }}
{{- end }}
{{- end }}
