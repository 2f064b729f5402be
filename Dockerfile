# One file, three images: `cairn` (the program), and `etcd` (with openssl for the demonstration's certificate) and
# `frr` for docker-compose.yml, from Debian's packages.

FROM debian:trixie-slim AS etcd
RUN apt-get update \
    && apt-get install --yes --no-install-recommends etcd-server etcd-client openssl \
    && rm -rf /var/lib/apt/lists/*
CMD ["etcd"]

FROM debian:trixie-slim AS frr
RUN apt-get update \
    && apt-get install --yes --no-install-recommends frr iproute2 iputils-ping \
    && rm -rf /var/lib/apt/lists/* \
    && sed -i 's/^bgpd=no/bgpd=yes/' /etc/frr/daemons \
    && printf 'service integrated-vtysh-config\n' >/etc/frr/vtysh.conf
# frrinit.sh starts the daemons and their watcher in the background; sleep keeps the container.
CMD ["sh", "-c", "/usr/lib/frr/frrinit.sh start && exec sleep infinity"]

FROM python:3.13-slim-trixie AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python -m venv /opt/cairn
COPY locks/build.txt locks/run.txt locks/compile.txt locks/
RUN /opt/cairn/bin/python -m pip install --no-cache-dir --require-hashes --requirement locks/build.txt \
    && /opt/cairn/bin/python -m pip install --no-cache-dir --no-build-isolation --require-hashes --requirement locks/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY bgpd bgpd
COPY reflector reflector
COPY agent agent
COPY ctl ctl
RUN /opt/cairn/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/cairn/bin/python -m pip install --no-cache-dir --require-hashes --target /tools --requirement locks/compile.txt \
    && PYTHONPATH=/tools /opt/cairn/bin/python -P -m bgpd.compiled

FROM python:3.13-slim-trixie AS cairn
RUN apt-get update \
    && apt-get install --yes --no-install-recommends iproute2 iputils-ping \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/cairn /opt/cairn
ENV PATH=/opt/cairn/bin:$PATH PYTHONDONTWRITEBYTECODE=1
# The agent needs root for netlink and says so in docker-compose.yml; everything else does not.
USER 65532:65532
ENTRYPOINT ["cairn"]
CMD ["--help"]
