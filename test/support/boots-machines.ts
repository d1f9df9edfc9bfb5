/**
 * Whether tests boot virtual machines: as root, which makes the base disk, and with `bin/test --all`, because without KVM one bake takes many minutes.
 */
export const bootsMachines = process.platform === 'linux' && process.getuid?.() === 0 && process.env.BAKE_TEST_ALL !== undefined
