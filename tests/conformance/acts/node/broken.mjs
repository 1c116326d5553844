/** Can't be loaded. */

throw new RangeError('no luck today')
