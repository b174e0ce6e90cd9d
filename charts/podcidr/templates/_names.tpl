{{/* Labels of every object; `include "podcidr.labels" (list . "agent")`. */}}
{{- define "podcidr.labels" -}}
{{- $root := first . -}}
{{ include "podcidr.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
{{- end }}

{{/* Labels that find a program's pods: they can never change, so no version is among them. */}}
{{- define "podcidr.selector" -}}
app.kubernetes.io/name: podcidr
app.kubernetes.io/instance: {{ (first .).Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{- define "podcidr.image" -}}
{{- $root := first . }}{{ $image := last . -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* The user as which a program's requests arrive, in the words of the admission policies. */}}
{{- define "podcidr.operator.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Values.operator.serviceAccountName }}
{{- end }}
{{- define "podcidr.agent.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ .Values.agent.serviceAccountName }}
{{- end }}

{{/* `include "podcidr.listen" (list . 8080)`: an IPv6 address needs brackets. */}}
{{- define "podcidr.listen" -}}
{{- $host := (first .).Values.listenHost -}}
--listen={{ if contains ":" $host }}[{{ $host }}]{{ else }}{{ $host }}{{ end }}:{{ last . }}
{{- end }}

{{/* Environment of both programs. */}}
{{- define "podcidr.environment" -}}
# Modules are never looked for in the working directory.
- {name: PYTHONSAFEPATH, value: "1"}
{{- with .Values.apiServer.host }}
- {name: KUBERNETES_SERVICE_HOST, value: {{ . | quote }}}
{{- end }}
{{- with .Values.apiServer.port }}
- {name: KUBERNETES_SERVICE_PORT, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* Probes on the host's network: they ask the node's own address. */}}
{{- define "podcidr.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}
