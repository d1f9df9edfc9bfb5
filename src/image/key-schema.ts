/** Raised whenever the same inputs would no longer give the same image or the same canonical text. */
export const KEY_SCHEMA = 1
