{{- /*
The pod's metadata and spec. Takes a dict: root, component, args, and restartPolicy for what ends by itself.
*/ -}}
{{- define "vodrelay.pod" -}}
{{- $daemon := eq .component "relay" -}}
{{- $sqlite := and $daemon (eq .root.Values.mode "statefulset") -}}
{{- $component := .component -}}
{{- $args := .args -}}
{{- $restartPolicy := .restartPolicy -}}
{{- with .root -}}
metadata:
  labels:
    {{- include "vodrelay.labels" . | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $annotations := deepCopy .Values.podAnnotations }}
  {{- if not .Values.existingConfigMap }}
  {{- $_ := set $annotations "checksum/config" (toYaml .Values.config | sha256sum) }}
  {{- end }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $restartPolicy }}
  restartPolicy: {{ . }}
  {{- end }}
  serviceAccountName: {{ include "vodrelay.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: vodrelay
      image: {{ include "vodrelay.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        {{- toYaml $args | nindent 8 }}
      env:
        {{- if $daemon }}
        - name: VODRELAY_ADMIN_LISTEN
          value: 0.0.0.0:9464
        - name: VODRELAY_ADMIN_TOKEN_FILE
          value: /run/secrets/vodrelay/admin_token
        {{- if .Values.callback.enabled }}
        - name: VODRELAY_CALLBACK_LISTEN
          value: 0.0.0.0:8085
        - name: VODRELAY_CALLBACK_PATH
          value: {{ .Values.callback.path | quote }}
        - name: VODRELAY_CALLBACK_SIGN_KEY_FILE
          value: /run/secrets/vodrelay/sign_key
        {{- end }}
        {{- end }}
        {{- if .Values.existingSecret }}
        - name: VODRELAY_VOD_CREDENTIALS_FILE
          value: /run/secrets/vodrelay
        {{- end }}
        - name: VODRELAY_STORE_DRIVER
        {{- if $sqlite }}
          value: sqlite
        - name: VODRELAY_STORE_PATH
          value: /var/lib/vodrelay/vodrelay.db
        - name: VODRELAY_STORE_MAX_BYTES
          value: {{ int64 .Values.persistence.maxBytes | quote }}
        {{- else if eq .Values.mode "statefulset" }}
          value: none
        {{- else }}
          value: {{ .Values.store.driver }}
        {{- if eq .Values.store.driver "postgres" }}
        - name: VODRELAY_STORE_URL_FILE
          value: /run/secrets/vodrelay/postgres_url
        {{- end }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $daemon }}
      ports:
        - name: admin
          containerPort: 9464
        {{- if .Values.callback.enabled }}
        - name: callback
          containerPort: 8085
        {{- end }}
      startupProbe:
        {{- toYaml .Values.startupProbe | nindent 8 }}
      livenessProbe:
        {{- toYaml .Values.livenessProbe | nindent 8 }}
      readinessProbe:
        {{- toYaml .Values.readinessProbe | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/vodrelay
          readOnly: true
        {{- if .Values.existingSecret }}
        - name: secret
          mountPath: /run/secrets/vodrelay
          readOnly: true
        {{- end }}
        {{- if $sqlite }}
        - name: state
          mountPath: /var/lib/vodrelay
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "vodrelay.configMap" . }}
    {{- with .Values.existingSecret }}
    - name: secret
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "vodrelay.drainSpec" -}}
{{- $args := list "drain" -}}
{{- with .Values.drain.for }}{{ $args = concat $args (list "--for" .) }}{{ end -}}
backoffLimit: {{ .Values.drain.backoffLimit }}
podFailurePolicy:
  rules:
    - action: FailJob # wrong usage or configuration: to try again does not help
      onExitCodes:
        containerName: vodrelay
        operator: In
        values: [2, 78]
    - action: Ignore # evicted, not failed
      onPodConditions:
        - type: DisruptionTarget
template:
  {{- include "vodrelay.pod" (dict "root" . "component" "drain" "args" $args "restartPolicy" "Never") | nindent 2 }}
{{- end }}
