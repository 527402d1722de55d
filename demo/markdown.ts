/**
 * A model's answer as DOM. The text is untrusted: it may hold whatever its training data or a document told it to write.
 * Owns what may appear: text formatting, lists, tables, code, and links that show where they lead. Never an image, a
 * form, a style, a script, or anything that makes the browser send a request by itself.
 */
import createDOMPurify from 'dompurify';
import { Marked } from 'marked';

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // HTML in an answer is shown as the text it is.
    html: ({ text, block }) => (block ? `<p>${escapeText(text)}</p>` : escapeText(text)),
    image: ({ href, text }) => escapeText(`[image: ${text || 'no description'}, ${href}]`),
    // Task lists without form controls.
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
});

const purifier = createDOMPurify(window);

const purifyOptions = {
  ALLOWED_TAGS: [
    ...['p', 'br', 'hr', 'strong', 'em', 'del', 'code', 'pre', 'blockquote', 'ul', 'ol', 'li'],
    ...['h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'a'],
  ],
  ALLOWED_ATTR: ['href', 'start', 'align'],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true as const,
};

/** Renders Markdown for insertion into the page. Returns nodes, not text: parsing sanitised text again could undo it. */
export function renderMarkdown(markdown: string): DocumentFragment {
  const fragment = purifier.sanitize(marked.parse(markdown, { async: false }), purifyOptions);
  for (const link of fragment.querySelectorAll('a')) showWhereItLeads(link);
  return fragment;
}

function showWhereItLeads(link: HTMLAnchorElement): void {
  const href = link.getAttribute('href');
  if (href === null) {
    link.replaceWith(...link.childNodes);
    return;
  }
  link.target = '_blank';
  link.rel = 'noopener noreferrer nofollow';
  if (link.textContent?.trim() !== href) link.append(` (${href})`);
}

function escapeText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
