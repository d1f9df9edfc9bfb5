import { refused } from '../errors.ts'
import type { MachineJob } from '../jobs/job.ts'
import type { ImageSource } from './images.ts'

/**
 * A job's images, which the asker has resolved: a worker builds none and waits for none. They are what is published of the commit, or nobody honest asked, or
 * somebody has built one anew since: images_mismatch (exit 2).
 */
export const jobImages = ({ images, build }: MachineJob, { published }: Pick<ImageSource, 'published'>): ImageSource => ({
  published,
  async ensure(commit, names) {
    const now = await published(commit, names)
    const asked = new Map(images.map(({ image, repository, digest }) => [image, `${repository}@${digest}`]))
    const wrong = now.find(({ image, reference }) => reference === undefined || reference !== asked.get(image))
    if (wrong === undefined) return now
    throw refused(
      'images_mismatch',
      `bake ${build} was asked for with image ${wrong.image} ${asked.get(wrong.image) ?? 'missing'}, and of commit ${commit.slice(0, 12)} it is ${wrong.reference ?? 'not published'}`,
      { next: 'ask again: bake ami    takes what is published now', ids: { build, image: wrong.image, commit } },
    )
  },
})
