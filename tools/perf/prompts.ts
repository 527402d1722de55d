/**
 * What is asked unless `--prompts` names a file. Written for this purpose: taken from no corpus, and used to tune nothing.
 */
export const ladderPrompts: readonly { readonly name: string; readonly text: string }[] = [
  {
    name: 'booking',
    text:
      'Hello, I am planning a long weekend in Lisbon with my sister and her two children, and I could use some help. ' +
      'We arrive on Friday the twelfth in the late afternoon and would like to eat somewhere close to the river that ' +
      'evening, ideally a seafood place with tables outside that does not mind small children. Nothing too expensive, ' +
      'please. One of the kids is allergic to nuts, so the kitchen has to be careful about that. There will be four of ' +
      'us, and half past seven would suit us best. Can you find a restaurant for us and book the table?',
  },
  {
    name: 'small talk',
    text:
      'I spent most of yesterday listening to old soul records with my neighbour, who used to play the saxophone in a ' +
      'band that toured in the seventies. He told me that he once opened for a singer who later wrote the music of a ' +
      'film about a night train. I had never heard of that film, so we watched it together, and the songs were much ' +
      'better than the acting. It made me wonder why good music so often ends up in bad movies. Do you have a ' +
      'favourite soundtrack, and did you like the film that it belongs to?',
  },
  {
    name: 'story',
    text:
      'Please go on with this story. On the edge of a grey moor stood a mill that had not ground any corn for thirty ' +
      'years. The miller had gone away one autumn without a word, and the people of the village said that at night the ' +
      'wheel turned by itself. One evening a girl named Agnes, who feared nothing but geese, lost her way in the fog ' +
      'and saw a light in the upper window. She knocked three times. The door opened slowly, and behind it stood a ' +
      'very small man with a lantern and a coat made of moss. "You are late," he said.',
  },
];

/** Long enough for prompts of any length that a table asks for, when repeated. */
export const runningText = ladderPrompts.map(({ text }) => text).join('\n');
