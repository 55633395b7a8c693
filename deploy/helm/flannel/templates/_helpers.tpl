{{- /* The object Backend of net-conf.json. What is zero or empty is left out. */ -}}
{{- define "flannel.backend" -}}
{{- $values := .Values.flannel -}}
{{- $keys := dict
  "vxlan" (dict
    "backendPort" "Port"
    "vni" "VNI"
    "GBP" "GBP"
    "directRouting" "DirectRouting"
    "mtu" "MTU"
    "macPrefix" "MacPrefix")
  "wireguard" (dict
    "backendPort" "ListenPort"
    "backendPortv6" "ListenPortV6"
    "psk" "PSK"
    "mtu" "MTU"
    "tunnelMode" "Mode"
    "keepaliveInterval" "PersistentKeepaliveInterval")
  "udp" (dict "backendPort" "Port") -}}
{{- $backend := dict "Type" $values.backend -}}
{{- range $value, $key := index $keys $values.backend | default dict -}}
{{- with index $values $value -}}
{{- $_ := set $backend $key . -}}
{{- end -}}
{{- end -}}
{{- toJson $backend -}}
{{- end -}}

{{- define "flannel.netConf" -}}
{{- $conf := dict "Backend" (include "flannel.backend" . | fromJson) -}}
{{- if .Values.podCidr -}}
{{- $_ := set $conf "Network" .Values.podCidr -}}
{{- else -}}
{{- $_ := set $conf "EnableIPv4" false -}}
{{- end -}}
{{- with .Values.podCidrv6 -}}
{{- $_ := set $conf "IPv6Network" . -}}
{{- $_ := set $conf "EnableIPv6" true -}}
{{- end -}}
{{- if .Values.flannel.enableNFTables -}}
{{- $_ := set $conf "EnableNFTables" true -}}
{{- end -}}
{{- toPrettyJson $conf -}}
{{- end -}}

{{- define "flannel.image" -}}
{{ printf "%s:%s" .Values.flannel.image.repository .Values.flannel.image.tag | quote }}
{{- end -}}

{{- define "flannel.installerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
# the folders of the node may belong to another user than root
capabilities:
  drop: [ALL]
  add: [DAC_OVERRIDE]
{{- end -}}

{{- define "flannel.probe" -}}
httpGet:
  path: {{ .path }}
  port: healthz
{{- with .probe }}
{{ toYaml . }}
{{- end }}
{{- end -}}
