import {marked} from 'marked'

/** Markdown in, as text or as `{markdown}`; HTML out. */
export function handle(given) {
  const markdown = Buffer.isBuffer(given) ? given.toString() : given.markdown
  if (typeof markdown !== 'string') throw new TypeError('expected a text, or {"markdown": "…"}')
  console.log(`${markdown.length} characters`)
  return marked.parse(markdown)
}
