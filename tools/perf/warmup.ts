/**
 * Short conversations that predictors learn from before the rungs with a warm forecast, unless `--warm` names others.
 * Written for this purpose, of the kinds that the model was trained on; none is of a corpus or close to a prompt.
 */
import type { Conversation } from './protocol.ts';

function talk(...turns: readonly string[]): Conversation {
  return turns.map((content, index) => ({ role: index % 2 === 0 ? 'user' : 'assistant', content }));
}

export const warmUpConversations: readonly Conversation[] = [
  talk(
    'I need to reserve a table for three people at a Thai restaurant tomorrow evening.',
    'Sure. In which city should I look, and what time would you like to eat?',
    'In Oakland, at six thirty please. Somewhere cheap is fine.',
    'There is a restaurant named Lemon Leaf on Grand Avenue. Shall I book a table for three at 6:30 pm tomorrow?',
    'Yes, that sounds good. Do they have live music?',
    'They do not have live music. Your reservation is confirmed. Is there anything else I can help you with?',
  ),
  talk(
    'I am looking for a one way flight from Seattle to Denver next Thursday.',
    'There is an Alaska flight that leaves at 8:15 am and costs 142 dollars. It has no stops.',
    'Is there another one that leaves in the afternoon?',
    'A Southwest flight leaves at 2:40 pm and the ticket is 167 dollars. Would you like to buy it?',
    'Yes, one economy ticket please.',
    'Your ticket is booked. Have a nice trip!',
  ),
  talk(
    'Hi, can I order a medium cappuccino with almond milk and a blueberry muffin?',
    'Of course. Would you like any syrup or whipped cream with that?',
    'No thank you, but make the coffee extra hot.',
    'A medium cappuccino with almond milk, extra hot, and one blueberry muffin. That will be ready in ten minutes.',
  ),
  talk(
    'What kind of music do you listen to when you work?',
    'Mostly jazz and some classical piano. Words distract me. What about you?',
    'I like rock, and lately a lot of country. My favorite band played in my town last year.',
    'That must have been fun! Did you go to the concert with friends?',
    'Yes, with my brother. They played for almost three hours, and the last song was the best.',
  ),
  talk(
    'Did you see the new superhero movie? I thought the villain was great.',
    'I saw it last week. The special effects were amazing, but the story was a little too long for me.',
    'True. I think the first movie is still the best one. Who is your favorite actor?',
    'I really like Tom Hanks. He is good in everything, from comedies to dramas.',
  ),
  talk(
    'Do you know much about the ocean? I read that most of it has never been explored.',
    'Yes, I heard that too. It is strange that we know more about the surface of the moon than about the deep sea.',
    'And some fish down there make their own light. Would you want to go there in a submarine?',
    'I think I would be too scared, but the pictures are beautiful.',
  ),
  talk(
    'A baker makes 12 loaves of bread every hour and works 7 hours a day. She sells each loaf for $3. How much money does she make in a day?',
    'She makes 12 * 7 = 84 loaves a day. She earns 84 * 3 = 252 dollars a day. The answer is 252.',
    'Mia has 45 stickers. She gives 9 to her brother and half of the rest to a friend. How many does she keep?',
    'After giving 9 to her brother she has 45 - 9 = 36 stickers. Half of 36 is 18. She keeps 18 stickers. The answer is 18.',
  ),
  talk(
    'Tell me a story about a king and a bird.',
    'Once upon a time there was a king who had a bird of gold in his garden. Every morning it sang, and whoever heard ' +
      'it forgot his sorrows. One night the bird flew away, and the king sent out his three sons to find it. The ' +
      'youngest went into the dark forest, and there he met an old woman who sat by a fire. "Give me some of your ' +
      'bread," she said, "and I will tell you where the bird is." So he gave her half of what he had, and she showed ' +
      'him the way to the mountain of glass.',
  ),
  talk(
    'Tell me a fable about a wolf and a lamb.',
    'A wolf saw a lamb drinking from a brook and wished to have a reason to eat it. "You make the water dirty," he ' +
      'said. "How can that be," answered the lamb, "when the water flows from you to me?" Then the wolf said, "Last ' +
      'year you spoke badly of me." "Last year I was not yet born," said the lamb. But the wolf would not listen. He ' +
      'who wants to do evil always finds an excuse.',
  ),
  talk(
    'I want to find a place to stay in San Diego for two nights from the 9th of March.',
    'How many rooms do you need, and should the hotel have a certain rating?',
    'One room, four stars if possible. Do they have wifi?',
    'The Harbor View Hotel has a rating of 4.2 and free wifi. It costs 188 dollars per night. Should I reserve it?',
    'Yes please. What is the phone number?',
    'The phone number is 619-555-0148. Your room is reserved.',
  ),
  talk(
    'Who do you think will win the football game on Sunday?',
    'I think the Patriots have a good chance. Their defense has been strong all season.',
    'I am a fan of the Packers myself. I have been watching their games since I was a child.',
    'They have a great quarterback. Did you know that the team is owned by its fans?',
  ),
  talk(
    'Play the song Blue River by the Lanterns on the bedroom speaker.',
    'Just to confirm: you want to play Blue River by the Lanterns on the device in the bedroom. Is that right?',
    'Yes, correct. What is the weather going to be like this evening?',
    'This evening will be cloudy with a temperature of 61 degrees and a 20 percent chance of rain.',
  ),
];
