// Orders what the search box finds: words in headings count most, then titles of pages, names of
// the code, and text. `.ci/docs` puts it where the pages expect Fuse, which would compare letters.
const FILLERS = new Set(("a an and are can do does for how i in is it my of on or the this to use " +
  "what where why with you your").split(" "))
const ENDINGS = /(?<=.{3})(ings?|ers?|es|e|s)$|(?<=.{4})ed$/
const NAME = /^[a-z_]\w*$|^\w+\.\w+$|^\w*(_|[a-z][A-Z])\w*$/   // of a function, a method or a class

class Search {
  constructor(entries) {
    this.rows = entries.map(entry => {
      const heading = entry.section || entry.title
      return {entry, heading: heading.toLowerCase(), title: entry.title.toLowerCase(),
              text: entry.text.toLowerCase(), name: NAME.test(heading)}
    })
  }

  search(query, {limit}) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean)
    const told = words.filter(word => !FILLERS.has(word))
    const starts = (told.length ? told : words).map(word => {
      const stem = word.replace(ENDINGS, "").replace(/\W/g, "\\$&")
      return new RegExp("(?<![a-z0-9])" + stem, "g")
    })
    return this.rows.map(row => rate(row, starts, query.trim().toLowerCase()))
      .filter(hit => hit.found).sort((a, b) => b.found - a.found || b.score - a.score)
      .slice(0, limit)
  }
}

// How many of the words are found, and how much their places count.
function rate(row, starts, query) {
  let found = 0, score = row.heading === query ? 3 : 0
  for (const start of starts) {
    const count = (row.text.match(start) ?? []).length
    const points = (row.heading.match(start) ? (row.name ? 5 : 10) : 0)
      + (row.title.match(start) ? 2 : 0) + Math.min(count, 5)/5
    if (points) found += 1
    score += points
  }
  return {item: row.entry, found, score}
}

window.Fuse = Search
