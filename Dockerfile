# Two images of one source, each with no more than its program needs:
#
#   docker build --target operator -t podcidr-operator:0.1.0 .
#   docker build --target agent    -t podcidr-agent:0.1.0 --build-arg VERSION=0.1.0 .

# --- the CNI plugin: static, for it runs on the host and not in the image ---
FROM --platform=$BUILDPLATFORM golang:1.26 AS plugin
ARG TARGETOS TARGETARCH VERSION=dev
WORKDIR /src
COPY plugin/go.mod plugin/go.sum ./
RUN go mod download
COPY plugin/ ./
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags="-s -w -X main.release=$VERSION" -o /podcidr-ipam .

# --- what both programs share ---
FROM python:3.12-slim AS base
# Modules come from the virtual environment, never from the working directory; output is logs, wanted at once.
ENV PATH=/opt/podcidr/bin:$PATH PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m", "podcidr"]

# --- their virtual environments: compiled here, since the containers' file systems are read-only ---
FROM base AS operator-environment
RUN python -m venv --without-pip /opt/podcidr
COPY requirements/operator.txt /tmp/requirements.txt
RUN /usr/local/bin/pip --python /opt/podcidr/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r /tmp/requirements.txt
COPY operator/podcidr /opt/podcidr/lib/python3.12/site-packages/podcidr
RUN python -m compileall -q /opt/podcidr/lib/python3.12/site-packages/podcidr

FROM base AS agent-environment
RUN python -m venv --without-pip /opt/podcidr
COPY requirements/agent.txt /tmp/requirements.txt
RUN /usr/local/bin/pip --python /opt/podcidr/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: -r /tmp/requirements.txt
COPY operator/podcidr /opt/podcidr/lib/python3.12/site-packages/podcidr
RUN python -m compileall -q /opt/podcidr/lib/python3.12/site-packages/podcidr

# --- the agent: root, since the state directory is root's, and with the plugin that its init container installs ---
FROM base AS agent
COPY --from=agent-environment /opt/podcidr /opt/podcidr
COPY --from=plugin /podcidr-ipam /usr/local/bin/podcidr-ipam

# --- the operator (last: what is built when no target is named) ---
FROM base AS operator
COPY --from=operator-environment /opt/podcidr /opt/podcidr
USER 65532:65532
