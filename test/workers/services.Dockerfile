# The images that compose.yaml takes from a public registry, from Debian packages: where tests run there may be no public registry.
ARG BASE
FROM ${BASE} AS packages
RUN set -eu; . /etc/os-release; \
    if [ "$VERSION_CODENAME" = bookworm ]; then \
      printf '%s\n' 'Types: deb' 'URIs: http://deb.debian.org/debian' 'Suites: trixie' 'Components: main' \
        'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >/etc/apt/sources.list.d/trixie.sources; \
      printf '%s\n' 'Package: *' 'Pin: release n=trixie' 'Pin-Priority: -1' '' \
        'Package: python3-moto' 'Pin: release n=trixie' 'Pin-Priority: 500' >/etc/apt/preferences.d/trixie; \
    fi; \
    apt-get -o Acquire::Retries=3 update; \
    apt-get -o Acquire::Retries=3 install --yes --no-install-recommends \
      curl docker-registry e2fsprogs fdisk python3-flask-cors python3-moto python3-yaml udev util-linux xz-utils

FROM packages AS moto
CMD ["python3", "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000"]

FROM packages AS registry
RUN printf '%s\n' 'version: 0.1' 'storage: { filesystem: { rootdirectory: /var/lib/registry } }' 'http: { addr: ":5000" }' >/etc/registry.yml
CMD ["docker-registry", "serve", "/etc/registry.yml"]
