#!/usr/bin/env bash
# secrets.sh [FOLDER]: makes what the cluster's processes show each other, in deploy/secrets: an authority of their own, a certificate for
# them, passwords. What is there stays. Whoever has the authority's key (internal-ca.key) can join the cluster: keep it elsewhere.
set -euo pipefail
folder=${1:-"$(dirname "$0")/secrets"}
mkdir -p "$folder"
cd "$folder"
umask 077

if [ ! -f internal-ca.pem ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Polity internal" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout internal-ca.key -out internal-ca.pem
fi
if [ ! -f member.pem ]; then
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=polity.internal" -keyout member.key -out member.csr
  openssl x509 -req -in member.csr -CA internal-ca.pem -CAkey internal-ca.key -days 90 -out member.pem -extfile <(
    printf 'subjectAltName=DNS:polity.internal\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=critical,digitalSignature\n')
  rm member.csr
fi
for name in nats-password registration-secret; do
  # It begins with a letter: NATS would take some digits for a number.
  [ -f "$name" ] || echo "p$(openssl rand -hex 24)" >"$name"
done
[ -f nats.env ] || echo "NATS_PASSWORD=$(cat nats-password)" >nats.env
# The images' user isn't this one; the folder is closed to others.
chmod 755 . && chmod 644 internal-ca.pem member.pem member.key nats-password registration-secret
chmod 700 .
