{{- /* The paths are those of the image (deploy/Containerfile); here is what differs from release to release. */ -}}
{{- define "tellmt.env" -}}
{{- $secrets := dict }}
{{- with .Values.registry.existingSecret }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}{{ $_ := set $secrets . (dict "name" $.Values.registry.existingSecret "key" .) }}{{ end }}
{{- end }}
{{- with .Values.vllm.existingSecret }}{{ if $.Values.vllm.enabled }}{{ $_ := set $secrets "TELLMT_ENGINE_KEY" (dict "name" . "key" "key") }}{{ end }}{{ end }}
{{- range $name, $secret := .Values.serveFromSecret }}{{ $_ := set $secrets (printf "TELLMT_SERVE_%s" (snakecase $name | upper)) $secret }}{{ end }}
{{- if or $secrets .Values.registry.endpoint }}
env:
{{- with .Values.registry.endpoint }}
  - name: AWS_ENDPOINT_URL
    value: {{ . | quote }}
{{- end }}
{{- range $name, $secret := $secrets }}
  - name: {{ $name }}
    valueFrom:
      secretKeyRef: {name: {{ $secret.name }}, key: {{ $secret.key }}}
{{- end }}
{{- end }}
{{- end }}

{{- /* A container that starts before the service and goes on beside it. It has a place for each adapter that is loaded, one for a change, and, since the last place of some
     builds of vLLM is not to be trusted (docs/engines.md), one that stays empty. */ -}}
{{- define "tellmt.vllm" -}}
{{- $adapters := int (.Values.serve.maxAdapters | default 8) -}}
- name: vllm
  restartPolicy: Always
  image: {{ .Values.vllm.image | quote }}
  command: [vllm, serve]
  args:
    - {{ include "tellmt.model" . | quote }}
    - "--served-model-name={{ .Values.base }}"
    - "--host=127.0.0.1"
    - "--port=8000"
    - "--max-model-len=4096"
    - "--enable-lora"
    - "--max-loras={{ add $adapters 2 }}"
    - "--max-cpu-loras={{ add (mul 2 $adapters) 2 }}"
    - "--max-lora-rank={{ int (.Values.serve.maxRank | default 16) }}"
    {{- range .Values.vllm.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - {name: VLLM_ALLOW_RUNTIME_LORA_UPDATING, value: "true"}
    - {name: VLLM_NO_USAGE_STATS, value: "1"}
    - {name: HF_HUB_OFFLINE, value: "1"}
    - {name: HOME, value: /var/cache/vllm}
    # The user has no entry in this image, and libraries ask for its name.
    - {name: USER, value: tellmt}
    {{- with .Values.vllm.existingSecret }}
    - name: VLLM_API_KEY
      valueFrom:
        secretKeyRef: {name: {{ . }}, key: key}
    {{- end }}
  # It listens inside the pod alone, where the kubelet's requests do not come.
  startupProbe:
    exec:
      command: [python3, -c, "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
    periodSeconds: 5
    timeoutSeconds: 10
    failureThreshold: 240
  resources:
    {{- toYaml .Values.vllm.resources | nindent 4 }}
  securityContext:
    {{- include "tellmt.securityContext" . | nindent 4 }}
  volumeMounts:
    - {name: bases, mountPath: /srv/tellmt/bases, readOnly: true}
    - {name: cache, mountPath: /var/cache/tellmt, readOnly: true}
    {{- if .Values.registry.existingClaim }}
    - {name: registry, mountPath: /srv/tellmt/registry, readOnly: true}
    {{- end }}
    - {name: vllm, mountPath: /var/cache/vllm}
    - {name: shm, mountPath: /dev/shm}
    - {name: tmp, mountPath: /tmp}
{{- end }}
