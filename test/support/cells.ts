/** Cells of a matrix: the telling ones come first, and `bin/test --all` has all of them. */
export const cells = <T>(all: readonly T[], telling = 1): T[] => (process.env.BAKE_TEST_ALL ? [...all] : all.slice(0, telling))
